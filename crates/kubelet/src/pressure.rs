//! Node pressure: when memory, disk or process ids run short, the node says so, and pods that take more than they asked
//! for go first.
//!
//! kubernetes/kubernetes pkg/kubelet/eviction: signals, default hard thresholds, ranking and messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use pods::amounts::{pod_total, request, whole};
use pods::worker::Event;

use crate::host::{Host, subject};
use crate::machine::{Disk, disk, meminfo};
use crate::task::Message;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// `memory.available<100Mi`, `nodefs.available<10%`, `nodefs.inodesFree<5%`.
const MEMORY_MIN_BYTES: u64 = 100 << 20;
const DISK_MIN_PERCENT: u64 = 10;
const INODES_MIN_PERCENT: u64 = 5;
/// pkg/apis/scheduling: pods of this priority are never evicted.
const CRITICAL: i32 = 2_000_000_000;

#[derive(Default)]
pub(crate) struct Pressure {
    memory: AtomicBool,
    disk: AtomicBool,
    pids: AtomicBool,
}

impl Pressure {
    pub(crate) fn memory(&self) -> bool {
        self.memory.load(Ordering::Relaxed)
    }

    pub(crate) fn disk(&self) -> bool {
        self.disk.load(Ordering::Relaxed)
    }

    pub(crate) fn pids(&self) -> bool {
        self.pids.load(Ordering::Relaxed)
    }
}

pub(crate) async fn watch(host: Arc<Host>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let available = meminfo("MemAvailable:").unwrap_or(u64::MAX / 1024) * 1024;
        let short = available < MEMORY_MIN_BYTES;
        host.pressure.memory.store(short, Ordering::Relaxed);
        let disk_short = is_full(&disk(&host.config.data_dir));
        host.pressure.disk.store(disk_short, Ordering::Relaxed);
        host.pressure.pids.store(pids_short(), Ordering::Relaxed);
        if short {
            evict(&host, "memory", &format!("100Mi, available: {}Ki", available / 1024)).await;
        } else if disk_short {
            let free = disk(&host.config.data_dir).available_bytes / 1024;
            evict(&host, "ephemeral-storage", &format!("10%, available: {free}Ki")).await;
        }
    }
}

fn is_full(disk: &Disk) -> bool {
    let below = |free: u64, all: u64, percent: u64| all > 0 && free.saturating_mul(100) < all.saturating_mul(percent);
    below(disk.available_bytes, disk.capacity_bytes, DISK_MIN_PERCENT)
        || below(disk.inodes_free, disk.inodes, INODES_MIN_PERCENT)
}

/// Fewer than a tenth of the process ids are left.
fn pids_short() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let max: Option<u64> = read("/proc/sys/kernel/pid_max").and_then(|text| text.trim().parse().ok());
    let used: Option<u64> = read("/proc/loadavg").and_then(|text| {
        let threads = text.split_whitespace().nth(3)?.split('/').nth(1)?.to_string();
        threads.parse().ok()
    });
    matches!((used, max), (Some(used), Some(max)) if used * 10 > max * 9)
}

/// Evicts the one pod that deserves it most; the next look shows whether that was enough.
async fn evict(host: &Arc<Host>, resource: &str, threshold: &str) {
    let usage = usage(host).await;
    let candidates: Vec<_> = host.pods().values().map(|known| (Arc::clone(&known.pod), known.to.clone())).collect();
    let mut ranked: Vec<_> = candidates.into_iter().filter(|(pod, _)| may_be_evicted(pod)).collect();
    ranked.sort_by_key(|(pod, _)| rank(pod, usage.get(crate::host::uid(pod)).copied().unwrap_or(0)));
    let Some((pod, to)) = ranked.pop() else { return };
    let used = usage.get(crate::host::uid(&pod)).copied().unwrap_or(0) / 1024;
    let message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {threshold}. The pod was using {used}Ki, request is {}Ki. ",
        asked(&pod) / 1024
    );
    let because = journal::Cause::kubelet(journal::Rule::NodePressure, Vec::new());
    let what = journal::What::Evicted { reason: "Evicted".into(), message: message.clone(), because };
    host.record(subject(&pod), what);
    to.send(Message::Event(Event::Evict { reason: "Evicted".into(), message, grace_seconds: 0 })).ok();
}

fn may_be_evicted(pod: &Pod) -> bool {
    let ended = pod.status.as_ref().and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed");
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|priority| priority >= CRITICAL);
    !ended && !critical && !crate::static_pods::is_static(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn asked(pod: &Pod) -> u64 {
    let spec = pod.spec.clone().unwrap_or_default();
    pod_total(&spec, |r| request(r, "memory").map(whole), false).unwrap_or(0).max(0) as u64
}

/// The last is evicted first: above its request, of low priority, by how much it is above.
fn rank(pod: &Pod, used: u64) -> (bool, std::cmp::Reverse<i32>, i64) {
    let over = used as i64 - asked(pod) as i64;
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0);
    (over > 0, std::cmp::Reverse(priority), over)
}

/// Working sets by pod uid.
async fn usage(host: &Host) -> HashMap<String, u64> {
    let mut out: HashMap<String, u64> = HashMap::new();
    match host.runtime.stats().await {
        Ok(stats) => {
            for one in stats {
                if let Some(id) = one.id {
                    *out.entry(id.pod_uid).or_default() += one.memory_working_set_bytes;
                }
            }
        }
        Err(error) => tracing::warn!(%error, "usage not known"),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32, request: &str) -> Pod {
        serde_json::from_value(
            serde_json::json!({"metadata": {"name": name}, "spec": {"priority": priority, "containers": [
            {"name": "c", "resources": {"requests": {"memory": request}}}]}}),
        )
        .unwrap()
    }

    #[test]
    fn who_takes_more_than_it_asked_for_goes_first() {
        let mut all = [
            (pod("modest", 0, "1Gi"), 900u64 << 20),
            (pod("dear", 9, "1Mi"), 90 << 20),
            (pod("greedy", 0, "1Mi"), 50 << 20),
        ];
        all.sort_by_key(|(pod, used)| rank(pod, *used));
        let order: Vec<_> = all.iter().rev().map(|(pod, _)| pod.metadata.name.clone().unwrap()).collect();
        assert_eq!(order, ["greedy", "dear", "modest"]);
    }
}
