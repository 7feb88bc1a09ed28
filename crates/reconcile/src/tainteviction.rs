//! Taint eviction: pods leave a node whose `NoExecute` taints they do not tolerate, or no longer do.
//!
//! kubernetes/kubernetes pkg/controller/tainteviction: decides when a pod goes and what is said about it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use serde_json::json;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::podstate;
use kinds::nodefit;

pub static TAINTEVICTION: Controller = Controller {
    name: "taint-eviction-controller",
    account: "node-controller",
    watches: &[(Of::Pod, of_pod), (Of::Node, of_node)],
    workers: 8,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    pod: Arc<Pod>,
    node: Arc<Node>,
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
    taints.into_iter().filter(|t| t.effect == "NoExecute").collect()
}

/// A pod is looked at when it has come to a node.
fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(pod) = change.after::<Pod>() else { return };
    let moved = change.before::<Pod>().is_none_or(|old| podstate::node_name(old) != podstate::node_name(pod));
    let node = cache.nodes.get("", podstate::node_name(pod));
    if moved && node.is_some_and(|n| !evicting(&n).is_empty()) {
        own(cache, change, keys);
    }
}

fn of_node(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(node) = change.after::<Node>() else { return };
    if change.before::<Node>().is_some_and(|old| evicting(old) == evicting(node)) || evicting(node).is_empty() {
        return;
    }
    let name = meta::name(&node.metadata);
    let pods = cache.pods.all();
    keys.extend(pods.iter().filter(|p| podstate::node_name(p) == name).map(|p| Key::of(&p.metadata)));
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let pod = cx.cache.pods.at(key)?;
    let node = cx.cache.nodes.get("", podstate::node_name(&pod))?;
    Some(View { pod, node })
}

/// How long the pod may stay from when the taint was added; none: for ever.
fn stay(pod: &Pod, taints: &[Taint]) -> Option<(Duration, Timestamp)> {
    let tolerations = pod.spec.as_ref().and_then(|s| s.tolerations.clone()).unwrap_or_default();
    let mut shortest: Option<(Duration, Timestamp)> = None;
    for taint in taints {
        let added = taint.time_added.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        let tolerating: Vec<_> = tolerations.iter().filter(|t| nodefit::tolerates(t, taint)).collect();
        if tolerating.is_empty() {
            return Some((Duration::ZERO, added));
        }
        let limit = tolerating.iter().filter_map(|t| t.toleration_seconds).min();
        if let Some(limit) = limit {
            let wait = Duration::from_secs(u64::try_from(limit).unwrap_or(0));
            if shortest.is_none_or(|(had, _)| wait < had) {
                shortest = Some((wait, added));
            }
        }
    }
    shortest
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let pod = view.pod.as_ref();
    let taints = evicting(&view.node);
    if taints.is_empty() || meta::deleting(&pod.metadata) {
        return plan;
    }
    let Some((wait, since)) = stay(pod, &taints) else { return plan };
    let passed = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
    if passed < wait {
        plan.requeue(wait - passed);
        return plan;
    }
    let key = Key::of(&pod.metadata);
    plan.events.push(Event::normal(pod, "TaintManagerEviction", format!("Marking for deletion Pod {key}")));
    let text = "Taint manager: deleting due to NoExecute taint";
    plan.actions.push(disrupt(pod, "DeletionByTaintManager", text, false, now));
    plan.actions.push(Action::delete(pod));
    plan
}

/// Marks a pod as a target of disruption, and as failed if `fail`, before it is deleted.
pub(crate) fn disrupt(pod: &Pod, reason: &str, message: &str, fail: bool, now: Timestamp) -> Action {
    let mut conditions = pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(k8s_openapi::api::core::v1::PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(meta::time(now)),
        observed_generation: pod.metadata.generation,
        ..Default::default()
    });
    let mut patch = json!({
        "metadata": {"resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": conditions},
    });
    if fail {
        patch["status"]["phase"] = json!("Failed");
    }
    Action::patch_status(pod, patch)
}
