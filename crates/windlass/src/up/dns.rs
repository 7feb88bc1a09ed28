//! The Service `kube-dns` and its endpoints: each node of ours answers at its pods' gateway, to the pods of its own first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use net::{Cache, Cidr, DNS_PORT};
use serde_json::{Value, json};

use super::publish;
use crate::node::RUNTIME;

/// Keeps the Service and its endpoints, once the nodes have been listed and one of them answers; `own` is that of this
/// process, which does as soon as it is asked.
pub async fn publish(client: kube::Client, address: IpAddr, own: Option<(String, IpAddr)>) -> anyhow::Result<()> {
    let mut written: Option<Servers> = None;
    let mut nodes: Cache<Node> = Cache::default();
    let all = watcher::Config::default();
    let mut events = watcher::watcher(Api::<Node>::all(client.clone()), all).default_backoff().boxed();
    loop {
        match events.next().await {
            Some(Ok(event)) => nodes.apply(event, &mut |_, _, _| {}),
            Some(Err(error)) => tracing::warn!(%error, "watch of nodes"),
            None => anyhow::bail!("the watch of nodes ended"),
        }
        if !nodes.complete {
            continue;
        }
        let listed = nodes.objects.values().filter_map(|node| Some((node.name_any(), server(node)?)));
        let own = own.iter().map(|(name, gateway)| (name.clone(), (*gateway, true)));
        let servers: Servers = listed.chain(own).collect();
        if written.is_none() && servers.is_empty() {
            continue;
        }
        if written.is_none() {
            publish::objects(&client, &[service(address)]).await;
        }
        if written.as_ref() != Some(&servers) {
            publish::objects(&client, &[slice(&servers, address.is_ipv4())]).await;
            written = Some(servers);
        }
    }
}

/// Where the nodes answer, and whether they are ready, by their names.
type Servers = BTreeMap<String, (IpAddr, bool)>;

/// Where a node answers, and whether it is ready; `None` for a node that is none of ours or has no pods' addresses yet.
fn server(node: &Node) -> Option<(IpAddr, bool)> {
    let status = node.status.as_ref()?;
    let runtime = &status.node_info.as_ref()?.container_runtime_version;
    let range: Cidr = node.spec.as_ref()?.pod_cidr.as_ref()?.parse().ok()?;
    let gateway = range.nth(1).filter(|_| runtime.starts_with(&format!("{RUNTIME}://")))?;
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    Some((gateway, ready))
}

fn service(address: IpAddr) -> Value {
    let labels = json!({
        "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true",
    });
    let port =
        |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": DNS_PORT});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": address, "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]},
    })
}

/// With hints, so that pods ask their own node while that answers.
fn slice(servers: &Servers, ipv4: bool) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": DNS_PORT});
    let endpoint = |(name, (gateway, ready)): (&String, &(IpAddr, bool))| {
        json!({
            "addresses": [gateway], "conditions": {"ready": ready}, "nodeName": name,
            "hints": {"forNodes": [{"name": name}]},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "windlass",
        }},
        "addressType": if ipv4 { "IPv4" } else { "IPv6" },
        "endpoints": servers.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_ours_answer_at_their_gateways() {
        let node = |runtime: &str, range: Option<&str>, ready: &str| -> Node {
            let info = json!({"containerRuntimeVersion": runtime, "architecture": "", "bootID": "", "kernelVersion": "",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "",
                "systemUUID": ""});
            let status = json!({"nodeInfo": info, "conditions": [{"type": "Ready", "status": ready}]});
            serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"podCIDR": range}, "status": status}))
                .unwrap()
        };
        let gateway = IpAddr::from([10, 244, 3, 1]);
        assert_eq!(server(&node("windlass://0.1.0", Some("10.244.3.0/24"), "True")), Some((gateway, true)));
        assert_eq!(server(&node("windlass://0.1.0", Some("10.244.3.0/24"), "Unknown")), Some((gateway, false)));
        assert_eq!(server(&node("windlass://0.1.0", None, "True")), None);
        assert_eq!(server(&node("containerd://2.1", Some("10.244.3.0/24"), "True")), None);
    }
}
