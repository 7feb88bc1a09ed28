//! Network policies on a node: policies, pods and namespaces become nftables rules as they change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use netplan::{Family, Labels, PolicyPod, PolicyRules, Protocol, plan_policies};
use tokio_util::sync::CancellationToken;

use crate::netlink::Refused;
use crate::policy_rules::PolicyTable;
use crate::watch::Cache;

/// How soon rules that the kernel refused are written again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct PolicyConfig {
    /// nftables table (family `ip`).
    pub table: String,
    pub node_name: String,
}

/// Enforces the policies of a node's pods, in the network namespace where it was opened.
pub struct NetworkPolicies {
    node_name: String,
    table: PolicyTable,
}

enum Seen {
    Policy(Box<Event<NetworkPolicy>>),
    Pod(Box<Event<Pod>>),
    Namespace(Box<Event<Namespace>>),
}

/// What policies depend on, as the API server has it.
#[derive(Default)]
struct Cluster {
    policies: Cache<NetworkPolicy>,
    pods: Cache<Pod>,
    namespaces: Cache<Namespace>,
}

impl NetworkPolicies {
    pub fn open(config: &PolicyConfig) -> Result<NetworkPolicies, Refused> {
        Ok(NetworkPolicies { node_name: config.node_name.clone(), table: PolicyTable::open(&config.table)? })
    }

    /// Removes the table. Nobody may enforce at that time.
    pub fn cleanup(config: &PolicyConfig) -> Result<(), Refused> {
        PolicyTable::open(&config.table)?.remove()
    }

    /// Keeps the rules as the API server has policies, pods and namespaces, until cancelled. Rules of an earlier process
    /// stay until everything has been listed, and are then replaced in one step; on return the rules stay.
    pub async fn run(mut self, client: Client, token: CancellationToken) {
        tokio::select! {
            () = token.cancelled() => {}
            () = self.keep(client) => {}
        }
    }

    async fn keep(&mut self, client: Client) {
        let mut events = events(client);
        let mut cluster = Cluster::default();
        let mut failed = false;
        loop {
            let retry = async {
                match failed {
                    true => tokio::time::sleep(RETRY_AFTER).await,
                    false => std::future::pending().await,
                }
            };
            let mut next = tokio::select! {
                event = events.next() => event,
                () = retry => None,
            };
            // All that is there at once, for the rules are planned as a whole.
            while let Some(event) = next {
                match event {
                    Ok(seen) => cluster.apply(seen),
                    // The stream tries again by itself, ever more slowly.
                    Err(error) => tracing::warn!(%error, "watch for network policies failed"),
                }
                next = events.next().now_or_never().flatten();
            }
            if !cluster.complete() {
                continue;
            }
            failed = match self.table.set(cluster.plan(&self.node_name)) {
                Ok(()) => false,
                Err(error) => {
                    tracing::error!(%error, "network policies could not be written, trying again");
                    true
                }
            };
        }
    }
}

fn events(client: Client) -> BoxStream<'static, Result<Seen, watcher::Error>> {
    let all = watcher::Config::default;
    let policies = watch(Api::<NetworkPolicy>::all(client.clone()), all()).default_backoff();
    let pods = watch(Api::<Pod>::all(client.clone()), all()).default_backoff().modify(shrink);
    let namespaces = watch(Api::<Namespace>::all(client), all()).default_backoff();
    let streams = [
        policies.map(|event| event.map(|event| Seen::Policy(Box::new(event)))).boxed(),
        pods.map(|event| event.map(|event| Seen::Pod(Box::new(event)))).boxed(),
        namespaces.map(|event| event.map(|event| Seen::Namespace(Box::new(event)))).boxed(),
    ];
    futures::stream::select_all(streams).boxed()
}

/// Forgets what policies do not depend on: there may be many pods.
fn shrink(pod: &mut Pod) {
    pod.metadata.managed_fields = None;
    pod.metadata.annotations = None;
    if let Some(spec) = &mut pod.spec {
        spec.volumes = None;
        for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            *container = k8s_openapi::api::core::v1::Container { ports: container.ports.take(), ..Default::default() };
        }
    }
    if let Some(status) = &mut pod.status {
        (status.container_statuses, status.init_container_statuses, status.conditions) = (None, None, None);
    }
}

impl Cluster {
    fn apply(&mut self, seen: Seen) {
        match seen {
            Seen::Policy(event) => self.policies.apply(*event, &mut |_, _, _| {}),
            Seen::Pod(event) => self.pods.apply(*event, &mut |_, _, _| {}),
            Seen::Namespace(event) => self.namespaces.apply(*event, &mut |_, _, _| {}),
        }
    }

    fn complete(&self) -> bool {
        self.policies.complete && self.pods.complete && self.namespaces.complete
    }

    fn plan(&self, node_name: &str) -> PolicyRules {
        let policies: Vec<Arc<NetworkPolicy>> = self.policies.objects.values().cloned().collect();
        if policies.is_empty() {
            return PolicyRules::default();
        }
        let pods: Vec<PolicyPod> = self.pods.objects.values().filter_map(|pod| policy_pod(pod, node_name)).collect();
        let namespaces: BTreeMap<String, Labels> = (self.namespaces.objects.values())
            .map(|namespace| (namespace.name_any(), namespace.labels().clone()))
            .collect();
        plan_policies(&policies, &pods, &namespaces, Family::Ipv4)
    }
}

/// `None` for a pod that policies do not touch: in the host's network, at its end, or without an address yet.
fn policy_pod(pod: &Pod, node_name: &str) -> Option<PolicyPod> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let addresses = status.pod_ips.iter().flatten().map(|address| &address.ip).chain(&status.pod_ip);
    let address = addresses.filter_map(|text| text.parse().ok()).find(IpAddr::is_ipv4)?;
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        Some((port.name.clone()?, Protocol::parse(port.protocol.as_deref())?, number))
    });
    Some(PolicyPod {
        namespace: pod.namespace().unwrap_or_default(),
        labels: pod.labels().clone(),
        address,
        ports: ports.collect(),
        local: spec.node_name.as_deref() == Some(node_name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_of_the_hosts_network_and_ended_ones_are_left_out() {
        let seen = |spec: serde_json::Value, status: serde_json::Value| {
            let pod = json!({"metadata": {"name": "p", "namespace": "shop", "labels": {"app": "web"}}, "spec": spec, "status": status});
            let mut pod: Pod = serde_json::from_value(pod).unwrap();
            shrink(&mut pod);
            policy_pod(&pod, "here")
        };
        let containers =
            json!([{"name": "c", "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]}]);
        let spec = |host: bool| json!({"nodeName": "here", "hostNetwork": host, "containers": containers});
        let running =
            json!({"phase": "Running", "podIP": "fd00::2", "podIPs": [{"ip": "fd00::2"}, {"ip": "10.244.0.2"}]});
        let found = seen(spec(false), running.clone()).unwrap();
        assert_eq!((found.address.to_string().as_str(), found.local), ("10.244.0.2", true));
        assert_eq!(found.ports, [("http".to_owned(), Protocol::Tcp, 80)]);
        assert_eq!(seen(spec(true), running), None);
        assert_eq!(seen(spec(false), json!({"phase": "Failed", "podIP": "10.244.0.2"})), None);
        assert_eq!(seen(spec(false), json!({"phase": "Pending"})), None);
    }
}
