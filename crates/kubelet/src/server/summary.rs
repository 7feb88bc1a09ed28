//! Figures of use: of the node, its pods and their containers.
//!
//! kubernetes/kubernetes staging kubelet pkg/apis/stats/v1alpha1: the shape of `/stats/summary`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use pods::ports::{ContainerId, ContainerStats};
use serde_json::{Value, json};

use crate::host::{Host, Known};
use crate::machine::{disk, meminfo};

/// A rate needs two readings this far apart at least.
const SPAN_MIN_MS: i128 = 1_000;

/// Earlier readings of CPU time, for rates.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Reading>>);

#[derive(Clone, Copy)]
struct Reading {
    at: Timestamp,
    cpu_ns: u64,
    /// The rate that was known when this was read.
    nano_cores: u64,
}

impl Rates {
    /// Nanocores in use, from this reading and the one before; the first time from `since` on.
    fn of(&self, key: &str, cpu_ns: u64, at: Timestamp, since: Timestamp) -> u64 {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = readings.get(key).copied();
        let rate = |from: Timestamp, used: u64| {
            let span_ns = at.duration_since(from).as_nanos().max(1);
            (i128::from(used) * 1_000_000_000 / span_ns).max(0) as u64
        };
        let nano_cores = match before {
            Some(before) if at.duration_since(before.at).as_millis() < SPAN_MIN_MS => return before.nano_cores,
            Some(before) => rate(before.at, cpu_ns.saturating_sub(before.cpu_ns)),
            None => rate(since, cpu_ns),
        };
        readings.insert(key.into(), Reading { at, cpu_ns, nano_cores });
        nano_cores
    }

    fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| keep(key));
    }
}

/// One pod with what its containers use.
pub(super) struct PodUse {
    pub(super) known: Known,
    pub(super) containers: Vec<(ContainerId, ContainerStats)>,
}

/// What every pod uses now.
pub(super) async fn read(host: &Host) -> Result<Vec<PodUse>, String> {
    let stats = host.runtime.stats().await.map_err(|error| error.to_string())?;
    let mut by_pod: BTreeMap<String, Vec<(ContainerId, ContainerStats)>> = BTreeMap::new();
    for one in stats {
        if let Some(id) = one.id.clone() {
            by_pod.entry(id.pod_uid.clone()).or_default().push((id, one));
        }
    }
    let pods = host.pods();
    let known = by_pod.into_iter().filter_map(|(uid, containers)| Some((pods.get(&uid)?.clone(), containers)));
    Ok(known.map(|(known, containers)| PodUse { known, containers }).collect())
}

pub(super) async fn summary(host: &Host) -> Result<Value, String> {
    let pods = read(host).await?;
    let now = Timestamp::now();
    let mut keys = vec!["node".to_string()];
    let mut shown = Vec::new();
    for pod in &pods {
        shown.push(pod_value(host, pod, &mut keys));
    }
    let node = node(host, now).await;
    host.rates.retain(|key| keys.iter().any(|known| known == key));
    Ok(json!({"node": node, "pods": shown}))
}

fn pod_value(host: &Host, pod: &PodUse, keys: &mut Vec<String>) -> Value {
    let meta = &pod.known.pod.metadata;
    let started = pod.known.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(Timestamp::now(), |t| t.0);
    let (mut cpu_ns, mut nano_cores) = (0, 0);
    let (mut usage, mut working, mut rss, mut pids) = (0, 0, 0, 0);
    let mut latest = started;
    let mut containers = Vec::new();
    for (id, stats) in &pod.containers {
        let key = format!("{}/{}/{}", id.pod_uid, id.name, id.attempt);
        let rate = host.rates.of(&key, stats.cpu_usage_core_ns, stats.at, started);
        keys.push(key);
        cpu_ns += stats.cpu_usage_core_ns;
        nano_cores += rate;
        usage += stats.memory_usage_bytes;
        working += stats.memory_working_set_bytes;
        rss += stats.memory_rss_bytes;
        pids += stats.pids;
        latest = latest.max(stats.at);
        let log = host.pod_log_dir(&pod.known.pod).join(&id.name).join(format!("{}.log", id.attempt));
        containers.push(json!({
            "name": id.name,
            "startTime": whole(started),
            "cpu": {"time": whole(stats.at), "usageNanoCores": rate, "usageCoreNanoSeconds": stats.cpu_usage_core_ns},
            "memory": memory(stats.at, stats.memory_usage_bytes, stats.memory_working_set_bytes, stats.memory_rss_bytes),
            "rootfs": {"time": whole(stats.at), "usedBytes": stats.rootfs_used_bytes},
            "logs": {"time": whole(stats.at), "usedBytes": std::fs::metadata(log).map_or(0, |meta| meta.len())},
        }));
    }
    json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": whole(started),
        "containers": containers,
        "cpu": {"time": whole(latest), "usageNanoCores": nano_cores, "usageCoreNanoSeconds": cpu_ns},
        "memory": memory(latest, usage, working, rss),
        "process_stats": {"process_count": pids},
    })
}

fn memory(at: Timestamp, usage: u64, working: u64, rss: u64) -> Value {
    json!({"time": whole(at), "usageBytes": usage, "workingSetBytes": working, "rssBytes": rss})
}

fn whole(at: Timestamp) -> String {
    pods::status::time(at).0.to_string()
}

/// CPU time of the whole machine since it booted.
pub(super) fn node_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal; a tick is a hundredth of a second on every Linux that is in use.
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| ticks.get(*index)).sum();
    busy * 10_000_000
}

pub(super) fn node_working_set() -> u64 {
    let kib = |key| meminfo(key).unwrap_or(0);
    kib("MemTotal:").saturating_sub(kib("MemAvailable:")) * 1024
}

async fn node(host: &Host, now: Timestamp) -> Value {
    let uptime: f64 = std::fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    let booted = now.checked_sub(jiff::SignedDuration::from_secs(uptime as i64)).unwrap_or(now);
    let cpu_ns = node_cpu_ns();
    let nano_cores = host.rates.of("node", cpu_ns, now, booted);
    let kib = |key| meminfo(key).unwrap_or(0) * 1024;
    let total = kib("MemTotal:");
    let usage = total.saturating_sub(kib("MemFree:"));
    let root = disk(&host.config.data_dir);
    let images = host.runtime.image_usage().await.unwrap_or_default();
    let used = root.capacity_bytes.saturating_sub(root.available_bytes);
    json!({
        "nodeName": host.config.node_name,
        "startTime": whole(booted),
        "cpu": {"time": whole(now), "usageNanoCores": nano_cores, "usageCoreNanoSeconds": cpu_ns},
        "memory": {
            "time": whole(now), "availableBytes": kib("MemAvailable:"), "usageBytes": usage,
            "workingSetBytes": node_working_set(), "rssBytes": kib("AnonPages:"),
        },
        "fs": {
            "time": whole(now), "availableBytes": root.available_bytes, "capacityBytes": root.capacity_bytes,
            "usedBytes": used, "inodesFree": root.inodes_free, "inodes": root.inodes,
            "inodesUsed": root.inodes.saturating_sub(root.inodes_free),
        },
        "runtime": {"imageFs": {
            "time": whole(now), "availableBytes": images.available_bytes, "capacityBytes": images.capacity_bytes,
            "usedBytes": images.image_bytes, "inodesFree": images.inodes_free, "inodes": images.inodes,
        }},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_difference_of_two_readings() {
        let rates = Rates::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(
            rates.of("c", 5_000_000_000, at(20), at(10)),
            500_000_000,
            "the first is the average since the start"
        );
        assert_eq!(rates.of("c", 6_000_000_000, at(22), at(10)), 500_000_000);
        assert_eq!(rates.of("c", 6_000_000_000, at(32), at(10)), 0);
        assert_eq!(rates.of("c", 9_000_000_000, at(32), at(10)), 0, "too soon for a new one");
    }
}
