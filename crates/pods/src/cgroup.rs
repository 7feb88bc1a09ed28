//! Resource requests and limits as control-group values.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kinds::resources::PodResources;

use crate::amounts::{limit, milli, qos_class, request, whole};
use crate::ports::Resources;
use crate::restart::is_sidecar;

const PERIOD_US: u64 = 100_000;
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
const QUOTA_MIN_US: i64 = 1_000;

/// kubernetes/kubernetes pkg/kubelet/cm/helpers_linux.go: 1024 shares a CPU.
pub fn shares(milli_cpu: i64) -> u64 {
    (milli_cpu.max(0) as u64 * 1024 / 1000).clamp(SHARES_MIN, SHARES_MAX)
}

fn quota(milli_cpu: i64) -> Option<i64> {
    (milli_cpu > 0).then(|| (milli_cpu * PERIOD_US as i64 / 1000).max(QUOTA_MIN_US))
}

/// The values of one container; `memory_capacity_bytes` is the node's.
pub fn of_container(pod: &Pod, container: &Container, memory_capacity_bytes: u64) -> Resources {
    let cpu_limit = limit(&container.resources, "cpu").map(milli);
    let cpu_request = request(&container.resources, "cpu").map(milli).or(cpu_limit).unwrap_or(0);
    let memory = limit(&container.resources, "memory").map(whole).filter(|bytes| *bytes > 0);
    Resources {
        cpu_shares: Some(shares(cpu_request)),
        cpu_quota_us: cpu_limit.and_then(quota),
        cpu_period_us: Some(PERIOD_US),
        memory_limit_bytes: memory.map(|bytes| bytes as u64),
        pids_limit: None,
        oom_score_adj: Some(oom_score_adj(pod, container, memory_capacity_bytes)),
        huge_pages_bytes: huge_pages(container),
    }
}

fn huge_pages(container: &Container) -> std::collections::BTreeMap<String, u64> {
    let limits = container.resources.iter().flat_map(|r| r.limits.iter().flatten());
    limits
        .filter_map(|(name, amount)| Some((name.strip_prefix("hugepages-")?.to_string(), whole(amount).max(0) as u64)))
        .collect()
}

/// The values of the whole pod's cgroup.
///
/// kubernetes/kubernetes pkg/kubelet/cm/helpers_linux.go (ResourceConfigForPod): limits only when every container has one.
pub fn of_pod(pod: &Pod) -> Resources {
    let seen = PodResources::from(pod);
    let qos = seen.qos_class();
    let cpu_request = seen.requests().get("cpu").map_or(0, |amount| amount.milli());
    let limit = |name: &str| seen.limit(name).filter(|_| qos != "BestEffort");
    let cpu_limit = limit("cpu").map(|amount| amount.milli());
    let memory_limit = limit("memory").map(|amount| amount.value());
    Resources {
        cpu_shares: Some(if qos == "BestEffort" { SHARES_MIN } else { shares(cpu_request) }),
        cpu_quota_us: cpu_limit.and_then(quota),
        cpu_period_us: Some(PERIOD_US),
        memory_limit_bytes: memory_limit.map(|bytes| bytes as u64),
        ..Resources::default()
    }
}

/// kubernetes/kubernetes pkg/kubelet/qos/policy.go: who the kernel kills first.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity_bytes: u64) -> i32 {
    const GUARANTEED: i64 = -997;
    const BEST_EFFORT: i64 = 1000;
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    // system-node-critical's value: pkg/apis/scheduling.
    if spec.priority.is_some_and(|p| p >= 2_000_001_000) {
        return GUARANTEED as i32;
    }
    match qos_class(pod) {
        "Guaranteed" => return GUARANTEED as i32,
        "BestEffort" => return BEST_EFFORT as i32,
        _ => {}
    }
    let capacity = memory_capacity_bytes.max(1) as i64;
    let wanted = |c: &Container| request(&c.resources, "memory").map(whole).unwrap_or(0);
    let score = |bytes: i64| 1000 - (1000i128 * bytes as i128 / capacity as i128) as i64;
    let mut adjust = score(wanted(container));
    if is_sidecar(container) && spec.init_containers.iter().flatten().any(|c| c.name == container.name) {
        let smallest = spec.containers.iter().map(wanted).min().unwrap_or(0);
        adjust = adjust.min(score(smallest));
    }
    adjust = adjust.max(1000 + GUARANTEED);
    if adjust == BEST_EFFORT { 999 } else { adjust as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn a_burstable_container_gets_shares_quota_and_a_score_by_its_memory_request() {
        let pod = pod(serde_json::json!([
            {"name": "a", "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": "500m"}}},
            {"name": "b"}
        ]));
        let spec = pod.spec.as_ref().unwrap();
        let a = of_container(&pod, &spec.containers[0], 4 << 30);
        assert_eq!((a.cpu_shares, a.cpu_quota_us, a.memory_limit_bytes), (Some(256), Some(50_000), None));
        assert_eq!(a.oom_score_adj, Some(750));
        let b = of_container(&pod, &spec.containers[1], 4 << 30);
        assert_eq!((b.cpu_shares, b.cpu_quota_us, b.oom_score_adj), (Some(2), None, Some(999)));
        let whole = of_pod(&pod);
        assert_eq!((whole.cpu_shares, whole.cpu_quota_us), (Some(256), None), "b is unlimited");
    }

    #[test]
    fn equal_requests_and_limits_are_guaranteed() {
        let same = serde_json::json!({"cpu": "1", "memory": "64Mi"});
        let pod = pod(serde_json::json!([{"name": "a", "resources": {"requests": same, "limits": same}}]));
        assert_eq!(qos_class(&pod), "Guaranteed");
        let whole = of_pod(&pod);
        assert_eq!((whole.cpu_quota_us, whole.memory_limit_bytes), (Some(100_000), Some(64 << 20)));
        assert_eq!(oom_score_adj(&pod, &pod.spec.as_ref().unwrap().containers[0], 4 << 30), -997);
    }
}
