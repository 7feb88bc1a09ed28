//! Node lifecycle: a silent node becomes `Unknown`, taints say what is wrong with a node, and the pods of a node that
//! is not ready are not ready either.
//!
//! kubernetes/kubernetes pkg/controller/nodelifecycle: decides conditions, messages and taints. A node is heard of by
//! its lease or its status. Silence before this process started is not held against it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use serde_json::json;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::podstate;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const KINDS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub static NODELIFECYCLE: Controller = Controller {
    name: "node-controller",
    account: "node-controller",
    watches: &[(Of::Node, own), (Of::Lease, of_lease), (Of::Pod, of_pod)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    node: Arc<Node>,
    lease: Option<Arc<Lease>>,
    /// The node's pods, when the node is not ready.
    pods: Vec<Arc<Pod>>,
    started: Timestamp,
    grace: Duration,
    startup_grace: Duration,
}

fn of_lease(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    // A renewal is read when the node is next due; only a lease's coming and going is news.
    if change.old.is_none() || change.new.is_none() {
        keys.extend(change.meta().map(|m| Key::new("", meta::name(m))));
    }
}

/// A pod that came to a node which had stopped being ready before.
fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(pod) = change.after::<Pod>() else { return };
    let name = podstate::node_name(pod);
    let moved = change.before::<Pod>().is_none_or(|old| podstate::node_name(old) != name);
    if moved && cache.nodes.get("", name).is_some_and(|node| not_ready_since(&node).is_some()) {
        keys.push(Key::new("", name));
    }
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let node = cx.cache.nodes.at(key)?;
    let mut pods = Vec::new();
    if not_ready_since(&node).is_some() {
        pods = cx.cache.pods.all();
        pods.retain(|pod| podstate::node_name(pod) == key.name);
    }
    Some(View {
        node,
        pods,
        lease: cx.cache.node_leases.get("kube-node-lease", &key.name),
        started: cx.started,
        grace: cx.settings.node_grace,
        startup_grace: cx.settings.node_startup_grace,
    })
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|c| c.type_ == kind)
}

/// When the node stopped being ready; none for one that is, or has not said yet.
fn not_ready_since(node: &Node) -> Option<Timestamp> {
    let ready = condition(node, "Ready").filter(|c| c.status != "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::MAX, |t| t.0))
}

/// Takes readiness from the pods that had it before the node lost its own. What a living kubelet has said of a pod
/// since then stands.
fn mark_pods(view: &View, plan: &mut Plan, now: Timestamp) {
    let Some(since) = not_ready_since(&view.node) else { return };
    for pod in &view.pods {
        let stale = podstate::condition(pod, "Ready").is_some_and(|c| {
            c.status == "True" && c.last_transition_time.as_ref().is_none_or(|ready| ready.0 <= since)
        });
        if !stale {
            continue;
        }
        let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        for ready in conditions.iter_mut().filter(|c| c.type_ == "Ready") {
            ready.status = "False".into();
            ready.last_transition_time = Some(meta::time(now));
        }
        let revision = &pod.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": revision}, "status": {"conditions": conditions}});
        plan.actions.push(Action::patch_status(pod.as_ref(), patch));
        plan.events.push(Event::warning(pod.as_ref(), "NodeNotReady", "Node is not ready"));
    }
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let node = view.node.as_ref();
    let ready = condition(node, "Ready");
    let grace = if ready.is_some() { view.grace } else { view.startup_grace };
    let renewed = view.lease.as_ref().and_then(|l| l.spec.as_ref()).and_then(|s| s.renew_time.as_ref()).map(|t| t.0);
    let beat = ready.and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0);
    let heard = [renewed, beat, Some(meta::created(&node.metadata)), Some(view.started)];
    let last = heard.into_iter().flatten().max().unwrap_or(view.started);
    let silent = Duration::try_from(now.duration_since(last)).unwrap_or(Duration::ZERO);
    let known = ready.is_some_and(|c| c.status != "Unknown");
    if silent > grace {
        if known || ready.is_none() {
            plan.status = Some(Action::update_status(&unknown(node, now)));
            let name = meta::name(&node.metadata);
            if known {
                let text = format!("Node {name} status is now: NodeNotReady");
                plan.events.push(Event::normal(node, "NodeNotReady", text));
            }
            return plan;
        }
    } else {
        plan.requeue(grace - silent + Duration::from_millis(50));
    }
    let wanted = taints(node, now);
    let had = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    if wanted != had {
        let revision = &node.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": revision}, "spec": {"taints": wanted}});
        plan.actions.push(Action::patch(node, patch));
    }
    mark_pods(view, &mut plan, now);
    plan
}

fn unknown(node: &Node, now: Timestamp) -> Node {
    let mut node = node.clone();
    let created = node.metadata.creation_timestamp.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in KINDS {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(had) if had.status == "Unknown" => {}
            Some(had) => {
                had.status = "Unknown".into();
                had.reason = Some("NodeStatusUnknown".into());
                had.message = Some("Kubelet stopped posting node status.".into());
                had.last_transition_time = Some(meta::time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: created.clone(),
                last_transition_time: Some(meta::time(now)),
            }),
        }
    }
    node
}

/// The node's taints as its conditions want them; those of others stay.
fn taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let state = |kind: &str| condition(node, kind).map(|c| c.status.as_str());
    let unschedulable = node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true));
    let rules: [(&str, &str, bool); 9] = [
        (NOT_READY, "NoSchedule", state("Ready") == Some("False")),
        (UNREACHABLE, "NoSchedule", state("Ready") == Some("Unknown")),
        ("node.kubernetes.io/memory-pressure", "NoSchedule", state("MemoryPressure") == Some("True")),
        ("node.kubernetes.io/disk-pressure", "NoSchedule", state("DiskPressure") == Some("True")),
        ("node.kubernetes.io/pid-pressure", "NoSchedule", state("PIDPressure") == Some("True")),
        ("node.kubernetes.io/network-unavailable", "NoSchedule", state("NetworkUnavailable") == Some("True")),
        (UNSCHEDULABLE, "NoSchedule", unschedulable),
        (NOT_READY, "NoExecute", state("Ready") == Some("False")),
        (UNREACHABLE, "NoExecute", state("Ready") == Some("Unknown")),
    ];
    let mut taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    for (key, effect, wanted) in rules {
        let at = taints.iter().position(|t| t.key == key && t.effect == effect);
        match (at, wanted) {
            (None, true) => taints.push(Taint {
                key: key.into(),
                effect: effect.into(),
                // Upstream stamps the time on what evicts and on what it sets by condition alike.
                time_added: Some(meta::time(now)),
                value: None,
            }),
            // A registering kubelet sets not-ready itself, before it has said anything of its readiness.
            (Some(_), false) if key == NOT_READY && state("Ready").is_none() => {}
            (Some(at), false) => {
                taints.remove(at);
            }
            _ => {}
        }
    }
    taints
}
