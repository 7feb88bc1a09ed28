//! `windlass up`: everything in one process, in the order in which one part needs another.

mod certificates;
mod control_plane;
mod dns;
mod etcd;
mod joining;
mod keys;
mod publish;
mod range;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use admit::UserInfo;
use anyhow::bail;
use bootstrap::kubeconfig;
use futures::future::OptionFuture;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Part, Settings};
use crate::join::Joined;
use crate::node::{self, Clients, Host};
use crate::process;
use crate::progress::Progress;
use crate::remote::Remote;
use crate::running::Running;
use certificates::{ADMIN, Certificates};
use control_plane::Api;

/// The name under which we write objects of the cluster's own.
const FIELD_MANAGER: &str = "windlass";
/// How often an API server of another make is asked whether it is ready, and the operator told that it is not.
const ASK_EVERY: Duration = Duration::from_millis(200);
const TELL_EVERY: Duration = Duration::from_secs(5);

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    if settings.runs_node() && !rustix::process::geteuid().is_root() {
        bail!(
            "a node needs root (containers, mounts, network): run `sudo windlass up`, or `windlass up --control-plane-only` \
             for an API server without a node"
        );
    }
    process::block_on(up(settings))
}

async fn up(settings: &Settings) -> anyhow::Result<()> {
    let begun = Instant::now();
    let progress = Progress::new();
    let stop = CancellationToken::new();
    if let Some(joined) = Joined::read(&settings.data)? {
        bail!(
            "this node has joined the cluster at {}: `windlass join` starts it, `windlass reset` forgets it",
            joined.server
        );
    }
    let _alone = process::lock(settings)?;
    let certificates = Certificates::ensure(settings, &progress)?;
    let journal: Arc<dyn journal::Journal> =
        Arc::new(store::JournalRing::open(settings.journal(), store::journal_ring::DEFAULT_BYTES)?);
    let (api, serving) = match &certificates.remote {
        None => own(settings, &certificates, &journal, &progress, &stop).await?,
        Some(remote) => (other(remote, &progress).await?, None),
    };
    Running::record(settings)?;
    progress.done("API server", settings.server_url());
    let merged = certificates.write_kubeconfigs()?;
    let mut components = control_plane::run_components(settings, &certificates.pki, &api, &journal, &stop)?;
    let admin = api.client(administrator())?;
    let own = match settings.runs(Part::Kubelet) {
        true => Some((settings.node_name.clone(), range::of_this_node(&admin, settings).await?)),
        false => None,
    };
    if let Some(server) = settings.advertised_url() {
        let authority = certificates.pki.ca.certificate.clone();
        tokio::spawn(joining::publish(admin.clone(), settings.clone(), server, authority));
    }
    if !settings.disabled.contains(&Part::Dns) {
        let server = match &own {
            Some((_, range)) => Some(settings.bridge(*range).gateway()),
            None => settings.runs(Part::Dns).then_some(settings.node_ip),
        };
        let (address, server) = (settings.dns_address(), server.map(|server| (settings.node_name.clone(), server)));
        components.spawn(async move { ("publication of DNS", dns::publish(admin, address, server).await) });
    }
    let clients = Clients::new(&settings.node_name, |user| api.client(user))?;
    if let Some((name, range)) = own {
        let host = Host {
            settings: settings.clone(),
            serving: certificates.kubelet.clone(),
            client_ca_file: certificates.pki.directory.join("ca.crt"),
            dns_address: settings.dns_address(),
            journal,
            range: Some(range),
        };
        let started = node::start(&host, clients, &stop, &mut components).await?;
        started.ready(&name, &progress, &mut components).await?;
    } else {
        node::start_without_kubelet(settings, clients, &stop, &mut components).await?;
    }
    tokio::spawn(certificates.keep(stop.clone()));
    let also = match settings.merge_into.as_ref().filter(|_| merged) {
        Some(user) => format!("      (context {:?} also merged into {})", kubeconfig::CONTEXT, user.display()),
        None => String::new(),
    };
    progress.note(format_args!("kubectl:  export KUBECONFIG={}{also}", settings.kubeconfig.display()));
    tracing::info!(elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), "up");
    let ended = process::until_stopped(&mut components).await;
    stop.cancel();
    if let Some(Err(error)) = OptionFuture::from(serving).await {
        tracing::warn!(%error, "the API server did not end well");
    }
    ended
}

/// The administrator of the cluster; the group is allowed everything.
fn administrator() -> UserInfo {
    UserInfo::new(ADMIN.user, ADMIN.group.as_slice())
}

/// An API server in this process, and its end.
async fn own(
    settings: &Settings,
    certificates: &Certificates,
    journal: &Arc<dyn journal::Journal>,
    progress: &Progress,
    stop: &CancellationToken,
) -> anyhow::Result<(Api, Option<JoinHandle<()>>)> {
    let listener = bind(settings.api).await?;
    let server = control_plane::start(settings, certificates, journal, progress, stop).await?;
    let serving = server.clone();
    let serving = tokio::spawn(async move {
        if let Err(error) = serving.serve(listener).await {
            tracing::error!(%error, "the API server is not served");
        }
    });
    Ok((Api::Own(server), Some(serving)))
}

/// Waits for an API server of another make, and writes what ours would have written for us.
async fn other(remote: &Arc<Remote>, progress: &Progress) -> anyhow::Result<Api> {
    let admin = remote.client(administrator())?;
    let mut telling = tokio::time::interval(TELL_EVERY);
    telling.tick().await;
    loop {
        let asked = admin.request_text(http::Request::get("/readyz").body(Vec::new())?).await;
        let Err(error) = asked else { break };
        tokio::select! {
            _ = telling.tick() => progress.note(format_args!("… waiting for the API server: {error}")),
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
    publish::objects(&admin, admit::policy::own_objects()).await;
    Ok(Api::Other(remote.clone()))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} is already in use: another API server runs here (windlass down stops ours); or choose another with --secure-port",
            address.port()
        ),
        std::io::ErrorKind::PermissionDenied => anyhow::anyhow!("port {} may not be used without root", address.port()),
        _ => anyhow::anyhow!("cannot listen on {address}: {error}"),
    })
}
