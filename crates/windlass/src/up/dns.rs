//! The Service `kube-dns` and its endpoints: each node of ours answers at its pods' gateway, to the pods of its own first.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use net::{Cidr, DNS_PORT};
use serde_json::{Value, json};

use super::FIELD_MANAGER;
use crate::node::RUNTIME;

/// Keeps the Service and its endpoints, once there is a node that answers; `own` is that of this process, which does as soon
/// as it is asked.
pub async fn publish(client: kube::Client, address: IpAddr, own: Option<(String, IpAddr)>) -> anyhow::Result<()> {
    let how = PatchParams::apply(FIELD_MANAGER).force();
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
    let mut servers: BTreeMap<String, (IpAddr, bool)> = BTreeMap::new();
    let mut written = servers.clone();
    let mut nodes = watcher::watcher(Api::<Node>::all(client), watcher::Config::default()).default_backoff().boxed();
    loop {
        servers.extend(own.iter().map(|(name, gateway)| (name.clone(), (*gateway, true))));
        if written.is_empty() && !servers.is_empty() {
            let written = services.patch("kube-dns", &how, &Patch::Apply(&service(address))).await;
            written.context("cannot publish the cluster's DNS")?;
        }
        if written != servers {
            match slices.patch("kube-dns", &how, &Patch::Apply(&slice(&servers, address.is_ipv4()))).await {
                Ok(_) => written.clone_from(&servers),
                // The next change of a node, which none is long without, is the next try.
                Err(error) => tracing::warn!(%error, "endpoints of kube-dns not written"),
            }
        }
        match nodes.next().await {
            Some(Ok(watcher::Event::Init)) => servers.clear(),
            Some(Ok(watcher::Event::InitApply(node) | watcher::Event::Apply(node))) => {
                let name = node.metadata.name.clone().unwrap_or_default();
                servers.remove(&name);
                servers.extend(server(&node).map(|server| (name, server)));
            }
            Some(Ok(watcher::Event::Delete(node))) => {
                servers.remove(node.metadata.name.as_deref().unwrap_or_default());
            }
            Some(Ok(watcher::Event::InitDone)) => {}
            Some(Err(error)) => tracing::warn!(%error, "watch of nodes"),
            None => anyhow::bail!("the watch of nodes ended"),
        }
    }
}

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
fn slice(servers: &BTreeMap<String, (IpAddr, bool)>, ipv4: bool) -> Value {
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
