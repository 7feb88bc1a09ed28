//! Node pressure: when memory, disk or process ids run short, the node says so, takes away what nobody uses, and then
//! evicts the pods that take more than they asked for. A pod beyond its own limits of disk is evicted at any time.
//!
//! kubernetes/kubernetes pkg/kubelet/eviction/eviction_manager.go (synchronize); `pods::eviction` decides.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use journal::{Cause, Rule, What};
use k8s_openapi::api::core::v1::Pod;
use pods::eviction::{self, ContainerUse, Observed, PodUse, Signal, Threshold};
use pods::worker::{Event, Severity};

use crate::garbage;
use crate::host::{Host, Known, subject, uid};
use crate::machine::{disk, meminfo};
use crate::task::Message;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What an evicted pod's containers get between the two signals (upstream's immediateEvictionGracePeriodSeconds).
const GRACE_SECONDS: i64 = 1;

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

    fn set(&self, met: &[(Threshold, Observed)]) {
        let any = |fits: fn(Signal) -> bool| met.iter().any(|(threshold, _)| fits(threshold.signal));
        self.memory.store(any(|signal| signal == Signal::MemoryAvailable), Ordering::Relaxed);
        self.disk.store(any(Signal::is_disk), Ordering::Relaxed);
        self.pids.store(any(|signal| signal == Signal::PidAvailable), Ordering::Relaxed);
    }
}

pub(crate) async fn watch(host: Arc<Host>, thresholds: Vec<Threshold>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        look(&host, &thresholds).await;
    }
}

/// One look at the node: at most one pod is evicted for its sake, for the next look shows whether that was enough.
pub(crate) async fn look(host: &Arc<Host>, thresholds: &[Threshold]) {
    let met = met(host, thresholds).await;
    host.pressure.set(&met);
    if enforce_limits(host).await {
        return;
    }
    let Some((threshold, _)) = met.first() else { return };
    let resource = threshold.signal.resource();
    host.events.node(Severity::Warning, "EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
    if threshold.signal.is_disk()
        && let Err(message) = garbage::remove_unused_images(host, Instant::now()).await
    {
        tracing::warn!(message, "unused images not removed");
    }
    // Taking away what nobody uses may have been enough.
    let observed = observe(host, threshold.signal).await;
    if threshold.is_met(observed) {
        evict_one(host, threshold, observed).await;
    }
}

async fn met(host: &Host, thresholds: &[Threshold]) -> Vec<(Threshold, Observed)> {
    let mut out = Vec::new();
    for threshold in thresholds {
        let observed = observe(host, threshold.signal).await;
        if threshold.is_met(observed) {
            out.push((threshold.clone(), observed));
        }
    }
    out
}

async fn observe(host: &Host, signal: Signal) -> Observed {
    let nodefs = || disk(&host.config.data_dir);
    match signal {
        Signal::MemoryAvailable => {
            let kib = |key| meminfo(key).unwrap_or(0) * 1024;
            Observed { available: kib("MemAvailable:"), capacity: kib("MemTotal:") }
        }
        Signal::NodefsAvailable => Observed { available: nodefs().available_bytes, capacity: nodefs().capacity_bytes },
        Signal::NodefsInodesFree => Observed { available: nodefs().inodes_free, capacity: nodefs().inodes },
        Signal::ImagefsAvailable | Signal::ImagefsInodesFree => match host.runtime.image_usage().await {
            Ok(images) if signal == Signal::ImagefsAvailable => {
                Observed { available: images.available_bytes, capacity: images.capacity_bytes }
            }
            Ok(images) => Observed { available: images.inodes_free, capacity: images.inodes },
            Err(error) => {
                tracing::warn!(%error, "images' disk not known");
                Observed::default()
            }
        },
        Signal::PidAvailable => processes().unwrap_or_default(),
    }
}

fn processes() -> Option<Observed> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let capacity: u64 = read("/proc/sys/kernel/pid_max")?.trim().parse().ok()?;
    let used: u64 = read("/proc/loadavg")?.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    Some(Observed { available: capacity.saturating_sub(used), capacity })
}

fn candidates(host: &Host) -> Vec<Known> {
    let pods = host.pods();
    let may = |known: &&Known| {
        let pod = &known.pod;
        !known.is_over() && pod.metadata.deletion_timestamp.is_none() && eviction::may_be_evicted(pod)
    };
    pods.values().filter(may).cloned().collect()
}

/// Evicts the pods that have gone beyond their limits of local storage. True when there was one.
async fn enforce_limits(host: &Arc<Host>) -> bool {
    let limited: Vec<Known> = candidates(host).into_iter().filter(|known| eviction::is_limited(&known.pod)).collect();
    if limited.is_empty() {
        return false;
    }
    let usage = usage(host, &limited).await;
    let mut any = false;
    for known in limited {
        let Some(used) = usage.get(uid(&known.pod)) else { continue };
        if let Some(refusal) = eviction::beyond_limit(&known.pod, used) {
            any = true;
            evict(host, &known, refusal.message, Rule::StorageLimit);
        }
    }
    any
}

async fn evict_one(host: &Arc<Host>, threshold: &Threshold, observed: Observed) {
    let candidates = candidates(host);
    let usage = usage(host, &candidates).await;
    let none = PodUse::default();
    let used = |known: &Known| usage.get(uid(&known.pod)).unwrap_or(&none);
    let Some(first) = candidates.iter().max_by_key(|known| eviction::rank(threshold.signal, &known.pod, used(known)))
    else {
        return;
    };
    let message = threshold.message(observed) + &eviction::blame(threshold.signal, &first.pod, used(first));
    evict(host, first, message, Rule::NodePressure);
}

fn evict(host: &Host, known: &Known, message: String, rule: Rule) {
    let because = Cause::kubelet(rule, Vec::new());
    let what = What::Evicted { reason: "Evicted".into(), message: message.clone(), because: because.clone() };
    host.record(subject(&known.pod), what);
    let event = Event::Evict { reason: "Evicted".into(), message, grace_seconds: GRACE_SECONDS, because };
    known.to.send(Message::Event(event)).ok();
}

/// What these pods use, by uid.
async fn usage(host: &Arc<Host>, of: &[Known]) -> HashMap<String, PodUse> {
    let mut out: HashMap<String, PodUse> = of.iter().map(|k| (uid(&k.pod).to_string(), PodUse::default())).collect();
    match host.runtime.stats().await {
        Ok(stats) => {
            let pods: HashMap<&str, &Pod> = of.iter().map(|known| (uid(&known.pod), &*known.pod)).collect();
            for one in stats {
                let Some((id, pod)) =
                    one.id.and_then(|id| Some((pods.get(id.pod_uid.as_str())?, id))).map(|(p, i)| (i, p))
                else {
                    continue;
                };
                let logs = crate::files::disk_usage(&host.pod_log_dir(pod).join(&id.name));
                let container = ContainerUse {
                    name: id.name,
                    memory_bytes: one.memory_working_set_bytes,
                    disk_bytes: one.rootfs_used_bytes + logs,
                    processes: one.pids,
                };
                out.entry(id.pod_uid).or_default().containers.push(container);
            }
        }
        Err(error) => tracing::warn!(%error, "usage not known"),
    }
    let (dirs, of) = (Arc::clone(host), of.to_vec());
    let volumes = tokio::task::spawn_blocking(move || {
        let used = |known: &Known| (uid(&known.pod).to_string(), empty_dirs(&dirs, &known.pod));
        of.iter().map(used).collect::<Vec<_>>()
    });
    for (uid, volumes) in volumes.await.unwrap_or_default() {
        out.entry(uid).or_default().empty_dirs = volumes;
    }
    out
}

/// The kernel keeps a volume in memory within its size.
fn empty_dirs(host: &Host, pod: &Pod) -> Vec<(String, u64)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let on_disk =
        volumes.filter(|v| v.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref() != Some("Memory")));
    let size = |dir: &Path| crate::files::disk_usage(dir);
    on_disk.map(|v| (v.name.clone(), size(&crate::volumes::directory(host, pod, v)))).collect()
}
