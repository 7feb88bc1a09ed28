//! This host as a node: runtime, pod network, kubelet, service proxy and DNS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use admit::UserInfo;
use anyhow::{Context, bail};
use apiserver::ApiServer;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, WatchEvent, WatchParams};
use kubelet::{Kubelet, KubeletConfig};
use net::{BridgeNetwork, DNS_PORT, Dns, DnsConfig, NetworkPolicies, ServiceProxy};
use runtime::Containers;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Components;
use super::certificates::Certificates;
use crate::builtin;
use crate::config::{Part, Settings};
use crate::progress::Progress;
use crate::version;

/// The name under which we write the objects of the cluster's DNS.
const FIELD_MANAGER: &str = "windlass";
/// How often the operator is told what the node waits for.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// As long as kubeadm waits for a kubelet.
const READY_WITHIN: Duration = Duration::from_secs(240);

/// Starts everything that makes this host a node, as far as it is not left out, and waits until the node is Ready.
pub async fn start(
    settings: &Settings,
    certificates: &Certificates,
    server: &ApiServer,
    journal: Arc<dyn journal::Journal>,
    progress: &Progress,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    if settings.runs(Part::Proxy) {
        start_proxy(settings, server, stop, components)?;
    }
    if !settings.runs(Part::Kubelet) {
        return Ok(());
    }
    let (containers, network) = tokio::join!(containers(settings), network(settings));
    let (containers, network) = (containers?, network?);
    let kubelet = Kubelet::new(
        kubelet_config(settings, certificates),
        Arc::new(containers),
        Arc::new(network),
        journal,
        server.client(UserInfo::new(format!("system:node:{}", settings.node_name), &["system:nodes"])),
    );
    let reported = kubelet.reported();
    let token = stop.clone();
    components.spawn(async move { ("kubelet", kubelet.run(token).await.map_err(Into::into)) });
    start_policies(settings, server, stop, components)?;
    let admin = server.client(UserInfo::new("kubernetes-admin", &["system:masters"]));
    if settings.runs(Part::Dns) {
        start_dns(settings, server, stop, components).await?;
        publish_dns(&admin, settings, settings.bridge().gateway()).await.context("cannot publish the cluster's DNS")?;
    }
    ready(reported, &admin, settings, progress, components).await?;
    progress.done("node", format_args!("{}  Ready", settings.node_name));
    Ok(())
}

fn start_proxy(
    settings: &Settings,
    server: &ApiServer,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    let proxy = ServiceProxy::open(settings.proxy())?;
    let (client, token) = (server.client(UserInfo::new("system:kube-proxy", &[])), stop.clone());
    components.spawn(async move {
        proxy.run(client, token).await;
        ("kube-proxy", Ok(()))
    });
    Ok(())
}

fn start_policies(
    settings: &Settings,
    server: &ApiServer,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    let policies = NetworkPolicies::open(&settings.policies()).context("cannot set up network policies")?;
    let policy_user = UserInfo::new(admit::policy::NETWORK_POLICY_USER, &["system:serviceaccounts"]);
    let (client, token) = (server.client(policy_user), stop.clone());
    components.spawn(async move {
        policies.run(client, token).await;
        ("network policies", Ok(()))
    });
    Ok(())
}

async fn start_dns(
    settings: &Settings,
    server: &ApiServer,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    let dns = dns(settings, settings.bridge().gateway()).await?;
    let dns_user = UserInfo::new(admit::policy::DNS_USER, &["system:serviceaccounts"]);
    let (client, token) = (server.client(dns_user), stop.clone());
    components.spawn(async move {
        dns.run(client, token).await;
        ("kube-dns", Ok(()))
    });
    Ok(())
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

async fn network(settings: &Settings) -> anyhow::Result<BridgeNetwork> {
    let config = settings.bridge();
    let opened = tokio::task::spawn_blocking(move || BridgeNetwork::open(config)).await?;
    opened.context("cannot set up the pod network")
}

fn kubelet_config(settings: &Settings, certificates: &Certificates) -> KubeletConfig {
    let defaults = KubeletConfig::new(settings.node_name.clone(), vec![settings.node_ip]);
    KubeletConfig {
        data_dir: settings.data.clone(),
        log_dir: settings.pod_logs.clone(),
        listen: Some(SocketAddr::from(([0, 0, 0, 0], settings.kubelet_port))),
        serving: Some(certificates.kubelet.clone()),
        client_ca_file: certificates.pki.directory.join("ca.crt"),
        cluster_dns: vec![settings.dns_address()],
        cluster_domain: settings.cluster_domain.clone(),
        static_pod_dir: Some(settings.manifests.clone()),
        max_pods: settings.pods_max,
        allowed_unsafe_sysctls: settings.unsafe_sysctls.clone(),
        version: version::KUBERNETES.to_owned(),
        runtime_version: format!("windlass://{}", env!("CARGO_PKG_VERSION")),
        eviction_hard: settings.eviction_hard.clone().unwrap_or(defaults.eviction_hard.clone()),
        ..defaults
    }
}

async fn dns(settings: &Settings, gateway: IpAddr) -> anyhow::Result<Dns> {
    let config = DnsConfig {
        listen: vec![SocketAddr::new(gateway, DNS_PORT)],
        domain: settings.cluster_domain.clone(),
        upstreams: None,
        own_addresses: vec![settings.dns_address()],
    };
    Dns::bind(config).await.with_context(|| format!("cannot serve DNS on {gateway}:{DNS_PORT}"))
}

/// Makes the Service `kube-dns`, whose only endpoint is this node's DNS server.
async fn publish_dns(client: &kube::Client, settings: &Settings, gateway: IpAddr) -> anyhow::Result<()> {
    let labels = json!({
        "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true",
    });
    let port =
        |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": DNS_PORT});
    let service: Service = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": settings.dns_address(), "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]},
    }))?;
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    let how = PatchParams::apply(FIELD_MANAGER).force();
    services.patch("kube-dns", &how, &Patch::Apply(&service)).await?;
    let endpoint = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": DNS_PORT});
    let slice: EndpointSlice = serde_json::from_value(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "windlass",
        }},
        "addressType": if gateway.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [gateway], "conditions": {"ready": true}}],
        "ports": [endpoint("dns", "UDP"), endpoint("dns-tcp", "TCP")],
    }))?;
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    slices.patch("kube-dns", &how, &Patch::Apply(&slice)).await?;
    Ok(())
}

/// Returns when the node is Ready. A component that ends before that is the reason why it never will be.
async fn ready(
    reported: impl Future<Output = ()>,
    client: &kube::Client,
    settings: &Settings,
    progress: &Progress,
    components: &mut Components,
) -> anyhow::Result<()> {
    let tell = |what: &str| progress.note(format_args!("… {what}"));
    tokio::select! {
        ready = becomes_ready(reported, client, &settings.node_name, TELL_EVERY, READY_WITHIN, tell) => ready,
        Some(ended) = components.join_next() => match ended {
            Ok((name, Err(error))) => Err(error.context(format!("{name} failed"))),
            Ok((name, Ok(()))) => bail!("{name} ended by itself"),
            Err(error) => bail!("a component failed: {error}"),
        },
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
