//! Questions asked of a pod.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

use crate::meta;

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("Pending")
}

pub fn finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub fn active(pod: &Pod) -> bool {
    !finished(pod) && !meta::deleting(&pod.metadata)
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

pub fn ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// Since when the pod is ready.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    ready.last_transition_time.as_ref().map(|t| t.0)
}

/// Ready for at least `min_ready_seconds`.
pub fn available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    ready(pod) && available_in(pod, min_ready_seconds, now).is_none()
}

/// How long a ready pod still has to stay so before it counts as available.
pub fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    if min_ready_seconds <= 0 || !ready(pod) {
        return None;
    }
    let wanted = Duration::from_secs(min_ready_seconds as u64);
    let since = ready_since(pod)?;
    let been = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
    (been < wanted).then(|| wanted - been)
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or("")
}

/// The most restarts of any of the pod's containers.
pub fn restarts_max(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|s| s.container_statuses.as_ref());
    containers.into_iter().flatten().map(|c| c.restart_count).max().unwrap_or(0)
}
