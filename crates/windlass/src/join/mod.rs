//! `windlass join`: this host as a node of a cluster that runs elsewhere.
//!
//! A host that comes for the first time learns to trust the cluster ([`discover`]) and asks it for the certificate of a
//! node ([`identity`]); what it has learnt stays in its data directory, so that it is started again without a token and
//! without the cluster. From then on it is a node like the first one (`crate::node`), but for the way to the API server
//! (`crate::remote`).

mod discover;
mod identity;
mod skew;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use bootstrap::joining::ClusterFacts;
use bootstrap::kubeconfig;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::config::{Part, Settings};
use crate::node::{self, Clients, Host};
use crate::process::{self, Components};
use crate::progress::Progress;
use crate::remote;
use crate::running::Running;
use discover::Invitation;
use identity::Identity;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where the cluster's API server is: https://HOST:6443
    server: Option<String>,
    /// A token of `windlass token create`
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// By which the cluster's authority is known: sha256:...
    #[arg(long, value_name = "HASH")]
    ca_hash: Option<String>,
}

/// What a node that has joined knows of its cluster, in its data directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    pub server: String,
    pub node_name: String,
    facts: ClusterFacts,
    /// The pods' addresses that the cluster has given to this node.
    pod_cidr: Option<String>,
}

impl Joined {
    fn path(data: &Path) -> PathBuf {
        data.join("joined.json")
    }

    pub fn read(data: &Path) -> anyhow::Result<Option<Joined>> {
        let path = Joined::path(data);
        let Some(text) = bootstrap::files::read_if_present(&path)? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&text).with_context(|| format!("{}: not a note of ours", path.display()))?))
    }

    /// Notes that no pod has an address of this node any more, so that it may be given others.
    pub fn taken_down(data: &Path) -> anyhow::Result<()> {
        match Joined::read(data)? {
            Some(joined) => Joined { pod_cidr: None, ..joined }.write(data),
            None => Ok(()),
        }
    }

    fn write(&self, data: &Path) -> anyhow::Result<()> {
        Ok(bootstrap::files::write_file(&Joined::path(data), &serde_json::to_vec_pretty(self)?, 0o600)?)
    }

    /// The settings of a node, with what is the cluster's to say.
    fn settings(&self, settings: Settings) -> anyhow::Result<Settings> {
        let range =
            |text: &str| text.parse().with_context(|| format!("the cluster says {text:?} for a range of addresses"));
        Ok(Settings {
            cluster_range: range(&self.facts.pod_subnet)?,
            service_range: range(&self.facts.service_subnet)?,
            cluster_domain: self.facts.dns_domain.clone(),
            ..settings
        })
    }
}

pub fn run(settings: Settings, arguments: &Arguments) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a node needs root (containers, mounts, network): run `sudo windlass join`");
    }
    if settings.data.join("store").exists() {
        bail!("{} holds a cluster of its own (windlass up): give another --data-dir", settings.data.display());
    }
    if settings.control_plane_only || !settings.runs(Part::Kubelet) {
        bail!("a host that joins is a node: its configuration leaves out the kubelet");
    }
    process::block_on(join(settings, arguments))
}

async fn join(settings: Settings, arguments: &Arguments) -> anyhow::Result<()> {
    let progress = Progress::new();
    let stop = CancellationToken::new();
    let _alone = process::lock(&settings)?;
    let mut joined = enter(&settings, arguments, &progress).await?;
    let settings = joined.settings(settings)?;
    Running::record(&settings)?;
    let identity = Identity::load(&settings)?;
    let remote = identity.remote(&joined.server)?;
    write_kubeconfig(&settings, &joined.server)?;
    let journal: Arc<dyn journal::Journal> =
        Arc::new(store::JournalRing::open(settings.journal(), store::journal_ring::DEFAULT_BYTES)?);
    let mut components = Components::new();
    let host = Host {
        serving: identity.serving.clone(),
        client_ca_file: identity.authority_file(),
        dns_address: joined.facts.dns_address,
        journal,
        range: joined.pod_cidr.as_ref().map(|text| text.parse()).transpose().context("joined.json: podCIDR")?,
        settings: settings.clone(),
    };
    let name = settings.node_name.clone();
    let clients = Clients::new(&name, |user| remote.client(user))?;
    let node = remote.client(node::user(&name))?;
    components.spawn(skew::watch(node.clone(), name.clone(), stop.clone()));
    let served = identity.served();
    components.spawn(identity.keep(node, remote, stop.clone()));
    let started = node::start(&host, clients, &stop, &mut components).await?;
    if joined.pod_cidr.is_none() {
        joined.pod_cidr = Some(started.range.to_string());
        joined.write(&settings.data)?;
    }
    started.ready(&name, &progress, &mut components).await?;
    tokio::select! {
        () = served => progress.done("serving", format_args!("port {}", settings.kubelet_port)),
        fault = process::fault(&mut components) => return Err(fault),
    }
    progress.note(format_args!("{name} is a node of the cluster at {}", joined.server));
    let ended = process::until_stopped(&mut components).await;
    stop.cancel();
    ended
}

/// What this host knows of its cluster: from an earlier time, or by its invitation.
async fn enter(settings: &Settings, arguments: &Arguments, progress: &Progress) -> anyhow::Result<Joined> {
    let before = Joined::read(&settings.data)?;
    if let Some(joined) = &before {
        if joined.node_name != settings.node_name {
            bail!(
                "--node-name {}: this host has joined as {}: `windlass reset` forgets that",
                settings.node_name,
                joined.node_name
            );
        }
        if let Some(other) =
            arguments.server.as_ref().filter(|server| remote::origin(server).ok().as_ref() != Some(&joined.server))
        {
            bail!("{other}: this host has joined the cluster at {}: `windlass reset` forgets that", joined.server);
        }
        if Identity::is_good(settings)? {
            progress.done("cluster", format_args!("{}  (joined before)", joined.server));
            return Ok(joined.clone());
        }
    }
    let invitation = Invitation::read(arguments, before.as_ref().map(|joined| joined.server.as_str()))?;
    let (server, facts) = discover::enter(settings, &invitation, progress).await?;
    let pod_cidr = before.and_then(|joined| joined.pod_cidr);
    let joined = Joined { server, node_name: settings.node_name.clone(), facts, pod_cidr };
    joined.write(&settings.data)?;
    Ok(joined)
}

/// For whoever wants to look at the cluster as this node sees it.
fn write_kubeconfig(settings: &Settings, server: &str) -> anyhow::Result<()> {
    let user = format!("system:node:{}", settings.node_name);
    let (authority, client) = (Identity::authority_path(settings), Identity::client_path(settings));
    let text = kubeconfig::of_files(server, &authority, &user, &client);
    Ok(bootstrap::files::write_file(&settings.data.join("kubelet.conf"), text.as_bytes(), 0o600)?)
}
