//! How a host that comes with a token learns to trust the cluster, learns what a node must know of it, and becomes a node
//! to it.
//!
//! kubernetes/kubernetes cmd/kubeadm/app/discovery/token, phases/kubelet, preflight: decide the order and what is refused.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bootstrap::discovery::{self, Distrust};
use bootstrap::joining::{CONFIG_MAPS, ClusterFacts};
use bootstrap::token::Token;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Client;
use kube::api::Api;
use serde_json::json;

use super::{Arguments, identity, skew};
use crate::config::Settings;
use crate::progress::Progress;
use crate::remote::{self, Credential};

/// The controller signs for a new token a moment after the token is made.
const SIGNED_WITHIN: Duration = Duration::from_secs(5);
/// An API server that was just started may need so long.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What a host must be told to join.
pub struct Invitation {
    server: String,
    token: Token,
    ca_hash: String,
}

impl Invitation {
    pub fn read(arguments: &Arguments, known: Option<&str>) -> anyhow::Result<Invitation> {
        const HELP: &str = "`windlass token create` on the cluster's first node prints the whole command";
        let again = match known {
            Some(_) => "this node's certificate has expired, so it must be let in anew: ",
            None => "",
        };
        let server = arguments.server.as_deref().or(known).with_context(|| format!("which cluster? {HELP}"))?;
        let token = arguments.token.as_deref().with_context(|| format!("{again}--token is missing: {HELP}"))?;
        let ca_hash = arguments.ca_hash.as_deref().with_context(|| format!("{again}--ca-hash is missing: {HELP}"))?;
        Ok(Invitation {
            server: remote::origin(server)?,
            token: token.parse().context("--token")?,
            ca_hash: discovery::parse_hash(ca_hash).map_err(|error| anyhow::anyhow!("--ca-hash: {error}"))?,
        })
    }
}

/// Becomes a node of the cluster: afterwards its authority and the node's certificate are in the data directory. Answers
/// where the cluster is, and what it is.
pub async fn enter(
    settings: &Settings,
    invitation: &Invitation,
    progress: &Progress,
) -> anyhow::Result<(String, ClusterFacts)> {
    let server = invitation.server.clone();
    let authority = trusted(invitation).await?;
    let token = invitation.token.to_string();
    let client = remote::client(&server, Some(&authority), &Credential::Token(&token), None)?;
    let version = client.apiserver_version().await.map_err(|error| refused(&server, error))?.git_version;
    skew::check(&version)?;
    let facts = facts(&client).await?;
    not_taken(&client, &settings.node_name).await?;
    progress.done("cluster", format_args!("{server}  ({version})"));
    identity::obtain(settings, &client, &authority).await?;
    progress.done("certificate", format_args!("system:node:{}", settings.node_name));
    Ok((server, facts))
}

/// The cluster's authority, by its signature and its hash.
async fn trusted(invitation: &Invitation) -> anyhow::Result<String> {
    let server = &invitation.server;
    let anybody = remote::client(server, None, &Credential::None, None)?;
    let begun = Instant::now();
    loop {
        let data = match cluster_info(&anybody).await {
            Ok(data) => data,
            Err(kube::Error::Api(status)) if begun.elapsed() < PUBLISHED_WITHIN => {
                tracing::info!(message = status.message, "the cluster does not tell who it is yet");
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            }
            Err(error) => return Err(refused(server, error)),
        };
        match discovery::authority(&data, &invitation.token, &invitation.ca_hash) {
            Ok(authority) => return again(server, authority, &data).await,
            Err(Distrust::Unsigned { .. }) if begun.elapsed() < SIGNED_WITHIN => tokio::time::sleep(AGAIN_AFTER).await,
            Err(distrust) => return Err(distrust).with_context(|| format!("the cluster at {server} is not trusted")),
        }
    }
}

/// The same is asked once more over a connection whose other end proves to be of that authority.
async fn again(server: &str, authority: String, seen: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let anybody = remote::client(server, Some(&authority), &Credential::None, None)?;
    let data = cluster_info(&anybody).await.map_err(|error| refused(server, error))?;
    if data.get("kubeconfig") != seen.get("kubeconfig") {
        bail!("the cluster at {server} is not trusted: it says one thing to all and another to those who know it");
    }
    Ok(authority)
}

async fn cluster_info(client: &Client) -> kube::Result<BTreeMap<String, String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), discovery::NAMESPACE);
    Ok(maps.get(discovery::NAME).await?.data.unwrap_or_default())
}

/// A failed request in the operator's terms.
fn refused(server: &str, error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 401 => anyhow::anyhow!(
            "the cluster at {server} does not know the token, or it has expired: `windlass token create` on the first node makes \
             another"
        ),
        kube::Error::Api(status) => anyhow::anyhow!("the cluster at {server} answers: {}", status.message),
        other => anyhow::Error::new(other).context(format!("the cluster at {server} cannot be reached")),
    }
}

async fn facts(client: &Client) -> anyhow::Result<ClusterFacts> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let [cluster, kubelet] = CONFIG_MAPS;
    let read = async |name: &str| {
        let map = maps.get(name).await.with_context(|| format!("cannot read the ConfigMap kube-system/{name}"))?;
        anyhow::Ok(json!(map.data))
    };
    Ok(ClusterFacts::read(&read(cluster).await?, &read(kubelet).await?)?)
}

/// Two nodes of one name would fight for it.
async fn not_taken(client: &Client, name: &str) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let Some(node) = nodes.get_opt(name).await.context("cannot look for a node of this name")? else { return Ok(()) };
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    if conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        bail!(
            "a node {name:?} exists already and is Ready: give another --node-name, or `kubectl delete node {name}` if it is \
             gone for good"
        );
    }
    Ok(())
}
