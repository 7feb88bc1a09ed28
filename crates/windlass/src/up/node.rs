//! This host as a node: runtime, pod network, kubelet, service proxy and DNS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use admit::UserInfo;
use anyhow::{Context, bail};
use apiserver::ApiServer;
use bootstrap::pki::Pki;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, WatchEvent, WatchParams};
use kubelet::{Kubelet, KubeletConfig};
use net::{BridgeNetwork, DNS_PORT, Dns, DnsConfig, NetworkPolicies, ServiceProxy};
use runtime::Containers;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Components;
use crate::builtin;
use crate::config::Settings;
use crate::progress::Progress;
use crate::version;

/// The name under which we write the objects of the cluster's DNS.
const FIELD_MANAGER: &str = "windlass";

/// Starts everything that makes this host a node, and waits until the node is Ready.
pub async fn start(
    settings: &Settings,
    pki: &Pki,
    server: &ApiServer,
    journal: Arc<dyn journal::Journal>,
    progress: &Progress,
    stop: &CancellationToken,
    components: &mut Components,
) -> anyhow::Result<()> {
    let bridge = settings.bridge();
    let (containers, network) = tokio::join!(containers(settings), network(settings));
    let (containers, network) = (containers?, network?);
    let kubelet = Kubelet::new(
        kubelet_config(settings, pki),
        Arc::new(containers),
        Arc::new(network),
        journal,
        server.client(UserInfo::new(format!("system:node:{}", settings.node_name), &["system:nodes"])),
    );
    let token = stop.clone();
    components.spawn(async move { ("kubelet", kubelet.run(token).await.map_err(Into::into)) });
    let proxy = ServiceProxy::open(settings.proxy())?;
    let (client, token) = (server.client(UserInfo::new("system:kube-proxy", &[])), stop.clone());
    components.spawn(async move {
        proxy.run(client, token).await;
        ("kube-proxy", Ok(()))
    });
    let policies = NetworkPolicies::open(&settings.policies()).context("cannot set up network policies")?;
    let policy_user = UserInfo::new(admit::policy::NETWORK_POLICY_USER, &["system:serviceaccounts"]);
    let (client, token) = (server.client(policy_user), stop.clone());
    components.spawn(async move {
        policies.run(client, token).await;
        ("network policies", Ok(()))
    });
    let dns = dns(settings, bridge.gateway()).await?;
    let dns_user = UserInfo::new(admit::policy::DNS_USER, &["system:serviceaccounts"]);
    let (client, token) = (server.client(dns_user), stop.clone());
    components.spawn(async move {
        dns.run(client, token).await;
        ("kube-dns", Ok(()))
    });
    let admin = server.client(UserInfo::new("kubernetes-admin", &["system:masters"]));
    publish_dns(&admin, settings, bridge.gateway()).await.context("cannot publish the cluster's DNS")?;
    ready(&admin, settings, components).await?;
    progress.done("node", format_args!("{}  Ready", settings.node_name));
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

fn kubelet_config(settings: &Settings, pki: &Pki) -> KubeletConfig {
    let defaults = KubeletConfig::new(settings.node_name.clone(), vec![settings.node_ip]);
    KubeletConfig {
        data_dir: settings.data.clone(),
        log_dir: settings.pod_logs.clone(),
        listen: Some(SocketAddr::from(([0, 0, 0, 0], settings.kubelet_port))),
        tls_cert_file: pki.directory.join("kubelet.crt"),
        tls_key_file: pki.directory.join("kubelet.key"),
        client_ca_file: pki.directory.join("ca.crt"),
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
async fn ready(client: &kube::Client, settings: &Settings, components: &mut Components) -> anyhow::Result<()> {
    tokio::select! {
        ready = becomes_ready(client, &settings.node_name) => ready,
        Some(ended) = components.join_next() => match ended {
            Ok((name, Err(error))) => Err(error.context(format!("{name} failed"))),
            Ok((name, Ok(()))) => bail!("{name} ended by itself"),
            Err(error) => bail!("a component failed: {error}"),
        },
    }
}

async fn becomes_ready(client: &kube::Client, name: &str) -> anyhow::Result<()> {
    use futures::TryStreamExt;
    let nodes: Api<Node> = Api::all(client.clone());
    loop {
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        let mut events = std::pin::pin!(nodes.watch(&only, "0").await?);
        while let Some(event) = events.try_next().await? {
            if let WatchEvent::Added(node) | WatchEvent::Modified(node) = event
                && is_ready(&node)
            {
                return Ok(());
            }
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}
