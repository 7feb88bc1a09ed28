//! This host as a node: runtime, pod network, kubelet, service proxy and DNS. The same in the process of the control plane
//! and in one that has joined it; only the way to the API server differs.

mod network;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use admit::UserInfo;
use anyhow::{Context, bail};
use bootstrap::joining::Agent;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kubelet::{Kubelet, KubeletConfig};
use net::{Cidr, DNS_PORT, Dns, DnsConfig, NetworkPolicies, NodeRoutes, RoutesConfig, ServiceProxy};
use runtime::Containers;
use rustls::server::ResolvesServerCert;
use tokio_util::sync::CancellationToken;

use crate::builtin;
use crate::config::{Part, Settings};
use crate::process::{Components, fault};
use crate::progress::Progress;
use crate::version;
use network::NodeNetwork;

/// How often the operator is told what the node waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// As long as kubeadm waits for a kubelet.
const READY_WITHIN: Duration = Duration::from_secs(240);

/// What nodes of ours call their container runtime.
pub const RUNTIME: &str = "windlass";
/// The user that the service proxy is.
const PROXY_USER: &str = "system:kube-proxy";

/// The user that a node's kubelet is.
pub fn user(node: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{node}"), &["system:nodes"])
}

/// The API server as each part of a node sees it: as a user of its own.
pub struct Clients {
    kubelet: kube::Client,
    proxy: kube::Client,
    policies: kube::Client,
    dns: kube::Client,
}

impl Clients {
    pub fn new(node: &str, client: impl Fn(UserInfo) -> anyhow::Result<kube::Client>) -> anyhow::Result<Clients> {
        let account = |name| client(UserInfo::new(name, &["system:serviceaccounts"]));
        Ok(Clients {
            kubelet: client(user(node))?,
            proxy: client(UserInfo::new(PROXY_USER, &[]))?,
            policies: account(admit::policy::NETWORK_POLICY_USER)?,
            dns: account(admit::policy::DNS_USER)?,
        })
    }

    /// The users that are not the kubelet's.
    pub fn agents() -> [Agent<'static>; 3] {
        let all = [PROXY_USER, admit::policy::NETWORK_POLICY_USER, admit::policy::DNS_USER];
        all.map(|user| match user.strip_prefix("system:serviceaccount:kube-system:") {
            Some(name) => Agent::ServiceAccount(name),
            None => Agent::User(user),
        })
    }
}

/// What makes one node differ from another.
pub struct Host {
    pub settings: Settings,
    /// What the kubelet's API serves with, and the authority of its clients.
    pub serving: Arc<dyn ResolvesServerCert>,
    pub client_ca_file: PathBuf,
    pub dns_address: IpAddr,
    pub journal: Arc<dyn journal::Journal>,
    /// The pods' addresses if they are known already; else the node waits for its object to have them.
    pub range: Option<Cidr>,
}

/// A node whose parts all run.
pub struct Started {
    pub range: Cidr,
    reported: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    client: kube::Client,
}

/// Starts everything that makes this host a node, as far as it is not left out.
pub async fn start(
    host: &Host,
    clients: Clients,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<Started> {
    let Clients { kubelet: client, proxy, policies, dns } = clients;
    let network = Arc::new(NodeNetwork::default());
    let known = async {
        match host.range {
            Some(range) => network.open(host.settings.bridge(range)).await,
            None => Ok(()),
        }
    };
    let (containers, opened) = tokio::join!(containers(&host.settings), known);
    let containers = containers?;
    opened?;
    let kubelet =
        Kubelet::new(kubelet_config(host), Arc::new(containers), network.clone(), host.journal.clone(), client.clone());
    let reported = kubelet.reported();
    let token = stop.clone();
    components.spawn(async move { ("kubelet", kubelet.run(token).await.map_err(Into::into)) });
    if host.settings.runs(Part::Proxy) {
        start_proxy(&host.settings, proxy.clone(), stop, components)?;
    }
    start_policies(&host.settings, policies, stop, components)?;
    let range = match host.range {
        Some(range) => range,
        None => {
            let range = tokio::select! {
                range = assigned_range(&client, &host.settings.node_name) => range?,
                fault = fault(components) => return Err(fault),
            };
            network.open(host.settings.bridge(range)).await?;
            range
        }
    };
    let (routes, token) = (NodeRoutes::open(routes(&host.settings, range))?, stop.clone());
    components.spawn(async move {
        routes.run(proxy, token).await;
        ("routes to other nodes", Ok(()))
    });
    if host.settings.runs(Part::Dns) {
        let config = dns_config(&host.settings, host.settings.bridge(range).gateway(), host.dns_address);
        start_dns(config, dns, stop, components).await?;
    }
    let name = host.settings.node_name.clone();
    let watching = client.clone();
    components.spawn(async move { ("pod addresses", keeps_range(&watching, &name, range).await) });
    Ok(Started { range, reported: Box::pin(reported), client })
}

/// Starts what there is of this host for a kubelet that is another's: the service proxy, and DNS at the node's own address,
/// since the pods' network is that kubelet's.
pub async fn start_without_kubelet(
    settings: &Settings,
    clients: Clients,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    if settings.runs(Part::Proxy) {
        start_proxy(settings, clients.proxy, stop, components)?;
    }
    if settings.runs(Part::Dns) {
        let config = dns_config(settings, settings.node_ip, settings.dns_address());
        start_dns(config, clients.dns, stop, components).await?;
    }
    Ok(())
}

fn start_proxy(
    settings: &Settings,
    client: kube::Client,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    let (proxy, token) = (ServiceProxy::open(settings.proxy())?, stop.clone());
    components.spawn(async move {
        proxy.run(client, token).await;
        ("kube-proxy", Ok(()))
    });
    Ok(())
}

fn start_policies(
    settings: &Settings,
    client: kube::Client,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    let policies = NetworkPolicies::open(&settings.policies()).context("cannot set up network policies")?;
    let token = stop.clone();
    components.spawn(async move {
        policies.run(client, token).await;
        ("network policies", Ok(()))
    });
    Ok(())
}

fn routes(settings: &Settings, range: Cidr) -> RoutesConfig {
    RoutesConfig {
        node_name: settings.node_name.clone(),
        node_address: settings.node_ip,
        node_range: range,
        bridge: settings.bridge.clone(),
        record: settings.node_routes(),
    }
}

fn dns_config(settings: &Settings, listen: IpAddr, service: IpAddr) -> DnsConfig {
    DnsConfig {
        listen: vec![SocketAddr::new(listen, DNS_PORT)],
        domain: settings.cluster_domain.clone(),
        upstreams: None,
        own_addresses: vec![service],
    }
}

async fn start_dns(
    config: DnsConfig,
    client: kube::Client,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    let at = config.listen.clone();
    let dns = Dns::bind(config).await.with_context(|| format!("cannot serve DNS on {at:?}"))?;
    let token = stop.clone();
    components.spawn(async move {
        dns.run(client, token).await;
        ("kube-dns", Ok(()))
    });
    Ok(())
}

impl Started {
    /// Returns when the node is Ready. A component that ends before that is the reason why it never will be.
    pub async fn ready(self, name: &str, progress: &Progress, components: &mut Components) -> anyhow::Result<()> {
        let tell = |what: &str| progress.note(format_args!("… {what}"));
        tokio::select! {
            ready = becomes_ready(self.reported, &self.client, name, TELL_EVERY, READY_WITHIN, tell) => ready?,
            fault = fault(components) => return Err(fault),
        }
        progress.done("node", format_args!("{name}  Ready"));
        Ok(())
    }
}

/// A node's own object, whenever it changes; `None` when it is deleted.
fn own_node(client: &kube::Client, name: &str) -> impl futures::Stream<Item = Option<Node>> + Send + use<> {
    let own = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher::watcher(Api::<Node>::all(client.clone()), own).default_backoff();
    events.filter_map(async |event| match event {
        Ok(watcher::Event::InitApply(node) | watcher::Event::Apply(node)) => Some(Some(node)),
        Ok(watcher::Event::Delete(_)) => Some(None),
        Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
        Err(error) => {
            tracing::warn!(%error, "watch of this node's object");
            None
        }
    })
}

fn range_of(node: &Node) -> anyhow::Result<Option<Cidr>> {
    let Some(text) = node.spec.as_ref().and_then(|spec| spec.pod_cidr.as_deref()) else { return Ok(None) };
    Ok(Some(text.parse().with_context(|| format!("spec.podCIDR of this node is {text:?}"))?))
}

/// The pods' addresses that the cluster gives this node.
async fn assigned_range(client: &kube::Client, name: &str) -> anyhow::Result<Cidr> {
    let mut nodes = std::pin::pin!(own_node(client, name));
    while let Some(node) = nodes.next().await {
        if let Some(range) = node.as_ref().map(range_of).transpose()?.flatten() {
            return Ok(range);
        }
    }
    bail!("the watch of node {name} ended")
}

/// Ends with an error when the cluster gives the node other addresses than its pods have: somebody has deleted its object,
/// and another node may have them by now.
async fn keeps_range(client: &kube::Client, name: &str, range: Cidr) -> anyhow::Result<()> {
    let mut nodes = std::pin::pin!(own_node(client, name));
    while let Some(node) = nodes.next().await {
        match node.as_ref().map(range_of).transpose()?.flatten() {
            Some(now) if now != range => bail!(
                "node {name} has {now} for its pods now (spec.podCIDR), where they are in {range}: run `windlass down`, and \
                 start it again"
            ),
            _ => {}
        }
    }
    bail!("the watch of node {name} ended")
}

async fn containers(settings: &Settings) -> anyhow::Result<Containers> {
    let containers = Containers::open(settings.runtime()).await.context("cannot start the container runtime")?;
    let (runtime, coming) = (containers.clone(), containers.images().announce(builtin::IMAGE));
    // Copying and hashing the binary takes longer than everything else here, and only its pods need to wait for it.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = builtin::install(runtime.images()) {
            tracing::error!(%error, image = builtin::IMAGE, "cannot install the built-in image");
        }
        drop(coming);
    });
    Ok(containers)
}

fn kubelet_config(host: &Host) -> KubeletConfig {
    let settings = &host.settings;
    let defaults = KubeletConfig::new(settings.node_name.clone(), vec![settings.node_ip]);
    KubeletConfig {
        data_dir: settings.data.clone(),
        log_dir: settings.pod_logs.clone(),
        listen: Some(SocketAddr::from(([0, 0, 0, 0], settings.kubelet_port))),
        serving: Some(host.serving.clone()),
        client_ca_file: host.client_ca_file.clone(),
        cluster_dns: vec![host.dns_address],
        cluster_domain: settings.cluster_domain.clone(),
        static_pod_dir: Some(settings.manifests.clone()),
        pod_cidr: host.range.map(|range| range.to_string()),
        max_pods: settings.pods_max,
        allowed_unsafe_sysctls: settings.unsafe_sysctls.clone(),
        version: version::KUBERNETES.to_owned(),
        runtime_version: format!("{RUNTIME}://{}", env!("CARGO_PKG_VERSION")),
        eviction_hard: settings.eviction_hard.clone().unwrap_or(defaults.eviction_hard.clone()),
        ..defaults
    }
}

/// Waits for the node to be Ready by the word of this process's kubelet, since an earlier one's may stand in the store;
/// tells every `tell_every` what is missing; fails with that after `within`.
async fn becomes_ready(
    reported: impl Future<Output = ()>,
    client: &kube::Client,
    name: &str,
    tell_every: Duration,
    within: Duration,
    tell: impl Fn(&str),
) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut last = None;
    let mut telling = tokio::time::interval(tell_every);
    telling.tick().await;
    let watching = async {
        reported.await;
        loop {
            let only = WatchParams::default().fields(&format!("metadata.name={name}"));
            let mut events = std::pin::pin!(nodes.watch(&only, "0").await?);
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Added(node) | WatchEvent::Modified(node) = event
                    && missing(Some(&node)).is_none()
                {
                    return anyhow::Ok(());
                }
            }
        }
    };
    let mut watching = std::pin::pin!(watching);
    let deadline = tokio::time::Instant::now() + within;
    loop {
        tokio::select! {
            ready = &mut watching => return ready.context("cannot watch the node"),
            _ = telling.tick() => {
                last = missing(nodes.get_opt(name).await.context("cannot read the node")?.as_ref());
                last.iter().for_each(|what| tell(&format!("waiting for node {name}: {what}")));
            }
            () = tokio::time::sleep_until(deadline) => {
                let last = last.unwrap_or_else(|| "nothing is known".to_owned());
                bail!("node {name} did not become Ready within {within:?}: {last}");
            }
        }
    }
}

/// Why a node is not Ready; nothing if it is.
fn missing(node: Option<&Node>) -> Option<String> {
    let Some(node) = node else { return Some("the kubelet has not registered it".to_owned()) };
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    match conditions.find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(ready.message.clone().unwrap_or_else(|| format!("it is Ready={}", ready.status))),
        None => Some("the kubelet has not reported its status".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use apiserver::ApiServer;
    use kube::api::Patch;
    use serde_json::json;
    use store::{Embedded, Options};

    use super::*;

    #[tokio::test]
    async fn what_a_node_waits_for_is_told_and_then_the_cause_of_the_failure() {
        let key = tempfile::tempdir().unwrap();
        let names = bootstrap::pki::Names {
            node: "n".to_owned(),
            node_addresses: vec![],
            extra: vec![],
            service_address: IpAddr::from([10, 96, 0, 1]),
            cluster_domain: "cluster.local".to_owned(),
        };
        let pki = bootstrap::pki::Pki::ensure(key.path(), &names, Duration::from_secs(3600), jiff::Timestamp::now());
        let config =
            apiserver::Config { service_account_key: pki.unwrap().service_account.key.into(), ..Default::default() };
        let store = Arc::new(Embedded::in_memory(Options::default()));
        let server = ApiServer::new(config, store).await.unwrap();
        let client = server.client(UserInfo::new("kubernetes-admin", &["system:masters"]));
        let told: Mutex<Vec<String>> = Mutex::default();
        let tell = |what: &str| told.lock().unwrap().push(what.to_owned());
        let short = Duration::from_millis(20);
        let error = becomes_ready(async {}, &client, "n", short, short * 20, tell).await.unwrap_err().to_string();
        assert!(error.ends_with("the kubelet has not registered it"), "{error}");
        assert_eq!(told.lock().unwrap()[0], "waiting for node n: the kubelet has not registered it");
        let nodes: Api<Node> = Api::all(client.clone());
        let node = |ready: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"conditions": [
                {"type": "Ready", "status": ready, "reason": "R", "message": "no network"}]}}))
            .unwrap()
        };
        nodes.create(&Default::default(), &node("False")).await.unwrap();
        let error = becomes_ready(async {}, &client, "n", short, short * 20, tell).await.unwrap_err().to_string();
        assert!(error.ends_with("no network"), "{error}");
        nodes.patch_status("n", &Default::default(), &Patch::Merge(node("True"))).await.unwrap();
        becomes_ready(async {}, &client, "n", short, Duration::from_secs(60), tell).await.unwrap();
        // What the object says counts for nothing until this kubelet has spoken.
        let silent = becomes_ready(std::future::pending(), &client, "n", short, short * 20, tell);
        silent.await.unwrap_err();
    }
}
