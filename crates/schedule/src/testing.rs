//! Clusters as short YAML, decisions as text.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::{Change, ClusterEvent, Decision, Scheduler};

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A node `name` with this much CPU and memory, and further fields of `spec` and labels as JSON.
pub fn node(name: &str, cpu: &str, memory: &str, labels: serde_json::Value, spec: serde_json::Value) -> ClusterEvent {
    let node: Node = serde_json::from_value(serde_json::json!({
        "metadata": { "name": name, "labels": labels },
        "spec": spec,
        "status": { "allocatable": { "cpu": cpu, "memory": memory, "pods": "110" } },
    }))
    .unwrap();
    ClusterEvent::Node(Change::Set(Arc::new(node)))
}

/// A pod with one container that asks for this much CPU; `more` is merged into its spec.
pub fn pod(name: &str, cpu: &str, more: serde_json::Value) -> Arc<Pod> {
    let mut spec = serde_json::json!({
        "containers": [{ "name": "c", "image": "i", "resources": { "requests": { "cpu": cpu } } }],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let pod = serde_json::from_value(serde_json::json!({
        "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": { "app": name } },
        "spec": spec,
    }));
    Arc::new(pod.unwrap())
}

pub fn set(pod: &Arc<Pod>) -> ClusterEvent {
    ClusterEvent::Pod(Change::Set(pod.clone()))
}

pub fn gone(pod: &Arc<Pod>) -> ClusterEvent {
    ClusterEvent::Pod(Change::Gone(pod.clone()))
}

pub fn cluster(events: Vec<ClusterEvent>) -> Scheduler {
    let mut scheduler = Scheduler::default();
    events.iter().for_each(|event| scheduler.on_event(event, at(0)));
    scheduler
}

/// Takes the next pod, decides and carries the decision out.
pub fn step(scheduler: &mut Scheduler, now: Timestamp) -> String {
    let Some(pod) = scheduler.next(now) else { return "nothing to do".to_string() };
    match scheduler.decide(&pod, 7) {
        Decision::Bind { node } => {
            scheduler.assume(&pod, &node);
            format!("{} -> {node}", pod.key.name)
        }
        Decision::Refused(refusal) => {
            scheduler.refused(&pod, &refusal, now);
            let victims: Vec<&str> =
                refusal.victims.iter().filter_map(|victim| victim.metadata.name.as_deref()).collect();
            let nominated = refusal.nominated.map(|node| format!(" nominated {node}, victims {victims:?}"));
            format!("{}: {}{}", pod.key.name, refusal.message, nominated.unwrap_or_default())
        }
    }
}
