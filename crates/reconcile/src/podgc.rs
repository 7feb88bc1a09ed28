//! Pod garbage collection: ended pods beyond a number, pods of nodes that are gone, deleted pods without a node.
//!
//! kubernetes/kubernetes pkg/controller/podgc: decides which, and their last condition. One key stands for all pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::podstate;
use crate::settings::Settings;
use crate::tainteviction::disrupt;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub static PODGC: Controller = Controller {
    name: "pod-garbage-collector-controller",
    account: "pod-garbage-collector",
    watches: &[(Of::Pod, of_pod), (Of::Node, of_node)],
    workers: 1,
    sync: |cx, _| plan(&gather(cx), cx.settings, cx.now, cx.started),
};

struct View {
    pods: Vec<Arc<Pod>>,
    nodes: Vec<Arc<Node>>,
}

fn all() -> Key {
    Key::new("", "all")
}

fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(pod) = change.after::<Pod>() else { return };
    let node = podstate::node_name(pod);
    let unscheduled = node.is_empty() && meta::deleting(&pod.metadata);
    let orphaned = !node.is_empty() && cache.nodes.synced() && cache.nodes.get("", node).is_none();
    if podstate::finished(pod) || unscheduled || orphaned {
        keys.push(all());
    }
}

fn of_node(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let out = change.after::<Node>().is_some_and(out_of_service);
    if change.new.is_none() || out {
        keys.push(all());
    }
}

fn out_of_service(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|s| s.taints.iter().flatten().any(|t| t.key == OUT_OF_SERVICE))
}

fn gather(cx: &Cx<'_>) -> View {
    View { pods: cx.cache.pods.all(), nodes: cx.cache.nodes.all() }
}

/// Evicted by its kubelet, for want of resources.
fn evicted(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Failed") && s.reason.as_deref() == Some("Evicted"))
}

fn kill(pod: &Pod) -> Action {
    Action::delete(pod).with_grace(0)
}

fn plan(view: &View, settings: &Settings, now: Timestamp, started: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut ended: Vec<&Arc<Pod>> = view.pods.iter().filter(|p| podstate::finished(p)).collect();
    if settings.terminated_pods_max > 0 && ended.len() > settings.terminated_pods_max {
        let excess = ended.len() - settings.terminated_pods_max;
        ended.sort_by_key(|p| (!evicted(p), meta::created(&p.metadata), p.metadata.name.clone()));
        plan.actions.extend(ended.iter().take(excess).map(|pod| kill(pod)));
    }
    let known: BTreeSet<&str> = view.nodes.iter().map(|n| meta::name(&n.metadata)).collect();
    let out: BTreeSet<&str> =
        view.nodes.iter().filter(|n| out_of_service(n)).map(|n| meta::name(&n.metadata)).collect();
    // A node that has just joined may not be known yet: orphans are left alone for a while.
    let quarantine = settings.orphan_quarantine;
    for pod in &view.pods {
        let node = podstate::node_name(pod);
        let deleting = meta::deleting(&pod.metadata);
        match (node.is_empty(), known.contains(node), deleting) {
            (true, _, true) => plan.actions.push(kill(pod)),
            (false, false, _) => {
                let since = meta::created(&pod.metadata).max(started);
                let age = std::time::Duration::try_from(now.duration_since(since)).unwrap_or_default();
                if age < quarantine {
                    plan.requeue(quarantine - age);
                    continue;
                }
                if !podstate::finished(pod) {
                    plan.actions.push(disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists", true, now));
                }
                plan.actions.push(kill(pod));
            }
            (false, true, true) if out.contains(node) => plan.actions.push(kill(pod)),
            _ => {}
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limit_evicted_pods_go_first_then_the_oldest() {
        let pod = |name: &str, reason: &str, hour: u8| -> Arc<Pod> {
            let created = format!("2026-01-01T{hour:02}:00:00Z");
            Arc::new(
                serde_json::from_value(serde_json::json!({
                    "metadata": {"name": name, "creationTimestamp": created},
                    "spec": {"nodeName": "n", "containers": []},
                    "status": {"phase": "Failed", "reason": reason},
                }))
                .unwrap(),
            )
        };
        let node: Node = serde_json::from_value(serde_json::json!({"metadata": {"name": "n"}})).unwrap();
        let pods = vec![pod("old", "", 1), pod("older", "", 0), pod("evicted", "Evicted", 5), pod("young", "", 6)];
        let view = View { pods, nodes: vec![Arc::new(node)] };
        let settings = Settings { terminated_pods_max: 1, ..Settings::default() };
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        let gone = plan(&view, &settings, now, now).actions;
        assert_eq!(gone.iter().map(|a| a.key.name.as_str()).collect::<Vec<_>>(), ["evicted", "older", "old"]);
    }
}
