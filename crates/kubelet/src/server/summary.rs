//! Figures of use: of the node, its pods and their containers.
//!
//! kubernetes/kubernetes staging kubelet pkg/apis/stats/v1alpha1: the shape of `/stats/summary`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use pods::ports::{ContainerId, ContainerStats};
use serde_json::{Value, json};

use crate::host::{Host, Known};
use crate::machine::{disk, meminfo};

/// A rate needs two readings this far apart at least.
const SPAN_MIN: Duration = Duration::from_secs(1);
/// And at most, for what was used an hour ago says nothing of now.
const SPAN_MAX: Duration = Duration::from_secs(60);

/// Earlier readings of CPU time, for rates.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Reading>>);

#[derive(Clone, Copy)]
struct Reading {
    at: Timestamp,
    cpu_ns: u64,
    /// The rate that was known when this was read.
    rate: Option<Rate>,
}

/// CPU use, and the time that it is averaged over.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate {
    nano_cores: u64,
    window: Duration,
}

impl Rates {
    /// The rate from the reading before to this one; of what has no reading yet, from its start on. None when neither
    /// is between [`SPAN_MIN`] and [`SPAN_MAX`] ago; another reading a little later will then give one.
    fn of(&self, key: &str, cpu_ns: u64, at: Timestamp, since: Timestamp) -> Option<Rate> {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = readings.get(key).copied();
        let (from, used) = match before {
            Some(before) if at < before.at.checked_add(SPAN_MIN).ok()? && before.rate.is_some() => return before.rate,
            Some(before) => (before.at, cpu_ns.saturating_sub(before.cpu_ns)),
            None => (since, cpu_ns),
        };
        let window = Duration::try_from(at.duration_since(from)).unwrap_or_default();
        if before.is_some_and(|before| before.at <= at) && window < SPAN_MIN {
            return None;
        }
        let nano_cores = u128::from(used) * 1_000_000_000 / window.as_nanos().max(1);
        let rate = (SPAN_MIN..=SPAN_MAX)
            .contains(&window)
            .then_some(Rate { nano_cores: u64::try_from(nano_cores).unwrap_or(u64::MAX), window });
        readings.insert(key.into(), Reading { at, cpu_ns, rate });
        rate
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

/// The document, after a second reading if the first gives no rates.
pub(super) async fn summary(host: &Host) -> Result<Value, String> {
    let (document, complete) = once(host).await?;
    if complete {
        return Ok(document);
    }
    // A little longer, since the clock of the readings may be slewed.
    tokio::time::sleep(SPAN_MIN + SPAN_MIN / 10).await;
    Ok(once(host).await?.0)
}

/// The document, and whether every rate in it is known.
async fn once(host: &Host) -> Result<(Value, bool), String> {
    let pods = read(host).await?;
    let mut keys = vec!["node".to_string()];
    let mut complete = true;
    let shown: Vec<Value> = pods.iter().map(|pod| pod_value(host, pod, &mut keys, &mut complete)).collect();
    let node = node(host, Timestamp::now(), &mut complete).await;
    host.rates.retain(|key| keys.iter().any(|known| known == key));
    Ok((json!({"node": node, "pods": shown}), complete))
}

/// `usageWindowNanoSeconds` is ours: the time that the rate is over.
fn cpu(at: Timestamp, used_ns: u64, rate: Option<Rate>) -> Value {
    let mut cpu = json!({"time": whole(at), "usageCoreNanoSeconds": used_ns});
    if let Some(Rate { nano_cores, window }) = rate {
        cpu["usageNanoCores"] = json!(nano_cores);
        cpu["usageWindowNanoSeconds"] = json!(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
    }
    cpu
}

fn pod_value(host: &Host, pod: &PodUse, keys: &mut Vec<String>, complete: &mut bool) -> Value {
    let meta = &pod.known.pod.metadata;
    let started = pod.known.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(Timestamp::now(), |t| t.0);
    let mut cpu_ns = 0;
    let mut sum = Some(Rate { nano_cores: 0, window: SPAN_MAX });
    let (mut usage, mut working, mut rss, mut pids) = (0, 0, 0, 0);
    let mut latest = started;
    let mut containers = Vec::new();
    for (id, stats) in &pod.containers {
        let key = format!("{}/{}/{}", id.pod_uid, id.name, id.attempt);
        let since = running_since(pod, &id.name).unwrap_or(started);
        let rate = host.rates.of(&key, stats.cpu_usage_core_ns, stats.at, since);
        keys.push(key);
        cpu_ns += stats.cpu_usage_core_ns;
        sum = sum.zip(rate).map(|(sum, rate)| Rate {
            nano_cores: sum.nano_cores.saturating_add(rate.nano_cores),
            window: sum.window.min(rate.window),
        });
        usage += stats.memory_usage_bytes;
        working += stats.memory_working_set_bytes;
        rss += stats.memory_rss_bytes;
        pids += stats.pids;
        latest = latest.max(stats.at);
        let log = host.pod_log_dir(&pod.known.pod).join(&id.name).join(format!("{}.log", id.attempt));
        containers.push(json!({
            "name": id.name,
            "startTime": whole(since),
            "cpu": cpu(stats.at, stats.cpu_usage_core_ns, rate),
            "memory": memory(stats.at, stats.memory_usage_bytes, stats.memory_working_set_bytes, stats.memory_rss_bytes),
            "rootfs": {"time": whole(stats.at), "usedBytes": stats.rootfs_used_bytes},
            "logs": {"time": whole(stats.at), "usedBytes": std::fs::metadata(log).map_or(0, |meta| meta.len())},
        }));
    }
    *complete &= sum.is_some();
    json!({
        "podRef": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "startTime": whole(started),
        "containers": containers,
        "cpu": cpu(latest, cpu_ns, sum),
        "memory": memory(latest, usage, working, rss),
        "process_stats": {"process_count": pids},
    })
}

/// When a container's present attempt was started.
pub(super) fn running_since(pod: &PodUse, container: &str) -> Option<Timestamp> {
    let status = pod.known.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let own = lists.into_iter().flat_map(|list| list.iter().flatten()).find(|status| status.name == container)?;
    Some(own.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0)
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

async fn node(host: &Host, now: Timestamp, complete: &mut bool) -> Value {
    let uptime: f64 = std::fs::read_to_string("/proc/uptime")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0);
    let booted = now.checked_sub(jiff::SignedDuration::from_secs(uptime as i64)).unwrap_or(now);
    let cpu_ns = node_cpu_ns();
    let rate = host.rates.of("node", cpu_ns, now, booted);
    *complete &= rate.is_some();
    let kib = |key| meminfo(key).unwrap_or(0) * 1024;
    let total = kib("MemTotal:");
    let usage = total.saturating_sub(kib("MemFree:"));
    let root = disk(&host.config.data_dir);
    let images = host.runtime.image_usage().await.unwrap_or_default();
    let used = root.capacity_bytes.saturating_sub(root.available_bytes);
    json!({
        "nodeName": host.config.node_name,
        "startTime": whole(booted),
        "cpu": cpu(now, cpu_ns, rate),
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
        let rate = |nano_cores, seconds| Some(Rate { nano_cores, window: Duration::from_secs(seconds) });
        let first = rates.of("c", 5_000_000_000, at(20), at(10));
        assert_eq!(first, rate(500_000_000, 10), "the first is the average since the start");
        assert_eq!(rates.of("c", 6_000_000_000, at(22), at(10)), rate(500_000_000, 2));
        assert_eq!(rates.of("c", 6_000_000_000, at(32), at(10)), rate(0, 10));
        assert_eq!(rates.of("c", 9_000_000_000, at(32), at(10)), rate(0, 10), "too soon for a new one");
    }

    #[test]
    fn a_rate_is_never_over_a_long_time() {
        let rates = Rates::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(rates.of("c", 5_000_000_000, at(3600), at(0)), None, "an hour's average");
        assert_eq!(rates.of("c", 5_500_000_000, at(3601), at(0)).map(|rate| rate.nano_cores), Some(500_000_000));
        assert_eq!(rates.of("c", 6_000_000_000, at(7200), at(0)), None, "the reading before is too old");
        assert_eq!(rates.of("c", 7_000_000_000, at(7201), at(0)).map(|rate| rate.nano_cores), Some(1_000_000_000));
    }
}
