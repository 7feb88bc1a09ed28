//! Whether a node takes a pod: what it asks for must be there, and nothing that it wants may be forbidden here.
//!
//! kubernetes/kubernetes pkg/kubelet/lifecycle/predicate.go: the checks, their order, reasons and messages.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Node, Pod, PodSpec};
use kinds::nodefit::{affinity_fits, untolerated};
use kinds::resources::PodResources;

use crate::amounts::{milli, whole};
use crate::is_static;

/// Why a node does not take a pod; it becomes `Failed` with these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `OutOfcpu`, `NodeAffinity`, `SysctlForbidden` ...
    pub reason: String,
    pub message: String,
}

impl Refusal {
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), message: message.into() }
    }
}

/// Whether `node` takes `pod` beside the `others` that it has, which have not ended.
///
/// # Errors
/// The first check that fails.
pub fn admit(pod: &Pod, node: &Node, others: &[Arc<Pod>]) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let os_label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if os_label.is_some_and(|os| os != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(Refusal::new("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(Refusal::new("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    resources_fit(spec, node, others)?;
    let failed =
        |predicate: &str, why: &str| Err(Refusal::new(predicate, format!("Predicate {predicate} failed: {why}")));
    if !affinity_fits(spec, node) {
        return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if spec.node_name.as_ref().is_some_and(|name| !name.is_empty() && node.metadata.name.as_ref() != Some(name)) {
        return failed("NodeName", "node(s) didn't match the requested node name");
    }
    if others.iter().any(|other| ports_clash(pod, other)) {
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    if !is_static(pod) && untolerated(node, tolerations, &["NoExecute"]).is_some() {
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

fn refusal(resource: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    let numbers = format!("requested: {requested}, used: {used}, capacity: {capacity}");
    Refusal::new(format!("OutOf{resource}"), format!("Node didn't have enough resource: {resource}, {numbers}"))
}

fn resources_fit(spec: &PodSpec, node: &Node, others: &[Arc<Pod>]) -> Result<(), Refusal> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let Some(allocatable) = allocatable else { return Ok(()) };
    let amount = |name: &str| if name == "cpu" { milli } else { whole };
    let has = |name: &str| allocatable.get(name).map(amount(name));
    let count = others.len() as i64;
    if let Some(most) = has("pods").filter(|most| count + 1 > *most) {
        return Err(refusal("pods", 1, count, most));
    }
    let asks = |spec: &PodSpec, name: &str| {
        let requests = PodResources::from(spec).requests();
        requests.get(name).map_or(0, |amount| if name == "cpu" { amount.milli() } else { amount.value() })
    };
    // A resource that the node does not know is nobody's here: it belongs to the cluster.
    let first = ["cpu", "memory", "ephemeral-storage"].into_iter();
    let rest = allocatable
        .keys()
        .map(String::as_str)
        .filter(|name| !["cpu", "memory", "ephemeral-storage", "pods"].contains(name));
    for name in first.chain(rest) {
        let (wanted, Some(most)) = (asks(spec, name), has(name)) else { continue };
        let used: i64 = others.iter().filter_map(|other| other.spec.as_ref()).map(|spec| asks(spec, name)).sum();
        if wanted > 0 && wanted > most - used {
            return Err(refusal(name, wanted, used, most));
        }
    }
    Ok(())
}

fn host_ports(pod: &Pod) -> Vec<&ContainerPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let sidecars = spec.init_containers.iter().flatten().filter(|container| crate::restart::is_sidecar(container));
    let all = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    all.filter(|port| port.host_port.is_some_and(|number| number > 0)).collect()
}

fn ports_clash(one: &Pod, other: &Pod) -> bool {
    let every = |ip: &str| matches!(ip, "" | "0.0.0.0");
    let same = |a: &ContainerPort, b: &ContainerPort| {
        let (ip_a, ip_b) = (a.host_ip.as_deref().unwrap_or_default(), b.host_ip.as_deref().unwrap_or_default());
        let protocol = |port: &ContainerPort| port.protocol.clone().unwrap_or_else(|| "TCP".into());
        a.host_port == b.host_port && protocol(a) == protocol(b) && (ip_a == ip_b || every(ip_a) || every(ip_b))
    };
    let theirs = host_ports(other);
    host_ports(one).into_iter().any(|a| theirs.iter().any(|b| same(a, b)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn asking(cpu: &str, memory: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}},
            "ports": [{"containerPort": 80, "hostPort": 8080}]}]})
    }

    fn refused(pod: &Pod, others: &[Arc<Pod>]) -> String {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "broken", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "2"}}}))
        .unwrap();
        match admit(pod, &node, others) {
            Ok(()) => "taken".into(),
            Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
        }
    }

    #[test]
    fn a_node_takes_what_fits_it() {
        let tolerating = |mut spec: Value| {
            spec["tolerations"] = json!([{"operator": "Exists"}]);
            pod(spec)
        };
        let first = Arc::new(tolerating(asking("1500m", "100Mi")));
        let none = json!({"containers": [{"name": "c"}]});
        assert_eq!(refused(&first, &[]), "taken");
        let others = [Arc::clone(&first)];
        assert_eq!(
            refused(&tolerating(asking("501m", "1Mi")), &others),
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"
        );
        assert_eq!(
            refused(&tolerating(asking("1m", "1Gi")), &others),
            "OutOfmemory: Node didn't have enough resource: memory, requested: 1073741824, used: 104857600, capacity: 1073741824"
        );
        assert_eq!(
            refused(&tolerating(asking("1m", "1Mi")), &others),
            "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        );
        let full = [Arc::new(tolerating(none.clone())), Arc::new(tolerating(none.clone()))];
        assert_eq!(
            refused(&tolerating(none.clone()), &full),
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"
        );
        let mut elsewhere = none.clone();
        elsewhere["nodeSelector"] = json!({"disk": "tape"});
        assert_eq!(
            refused(&tolerating(elsewhere), &[]),
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
        );
        let mut windows = none.clone();
        windows["os"] = json!({"name": "windows"});
        assert!(refused(&tolerating(windows), &[]).starts_with("PodOSNotSupported: "));
        assert!(refused(&pod(none.clone()), &[]).starts_with("TaintToleration: "));
        let mut file = pod(none);
        file.metadata.annotations = Some([("kubernetes.io/config.source".into(), "file".into())].into());
        assert_eq!(refused(&file, &[]), "taken", "a static pod is asked about no taint");
    }
}
