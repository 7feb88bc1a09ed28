//! Eviction: when a node is short of something, which pod goes first, and which pod has taken more disk than it may.
//!
//! kubernetes/kubernetes pkg/kubelet/eviction: signals, thresholds, ranking and messages.

use std::cmp::Reverse;

use k8s_openapi::api::core::v1::Pod;
use kinds::resources::PodResources;

use crate::admission::Refusal;
use crate::amounts::{limit, request, whole};
use crate::restart::is_sidecar;

/// pkg/apis/scheduling: pods of this priority are never evicted.
const CRITICAL: i32 = 2_000_000_000;

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

const SIGNALS: [(&str, Signal); 6] = [
    ("memory.available", Signal::MemoryAvailable),
    ("nodefs.available", Signal::NodefsAvailable),
    ("nodefs.inodesFree", Signal::NodefsInodesFree),
    ("imagefs.available", Signal::ImagefsAvailable),
    ("imagefs.inodesFree", Signal::ImagefsInodesFree),
    ("pid.available", Signal::PidAvailable),
];

impl Signal {
    /// The resource that is short, as messages name it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    pub fn is_disk(self) -> bool {
        !matches!(self, Self::MemoryAvailable | Self::PidAvailable)
    }
}

/// A share or an amount below which pods are evicted at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    least: Least,
}

#[derive(Clone, Debug, PartialEq)]
enum Least {
    Amount(u64),
    Share(f64),
}

/// What there is of a signal's resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    pub available: u64,
    pub capacity: u64,
}

impl Threshold {
    fn least(&self, observed: Observed) -> u64 {
        match self.least {
            Least::Amount(amount) => amount,
            Least::Share(share) => (observed.capacity as f64 * share) as u64,
        }
    }

    /// Nothing is known of a resource without capacity.
    pub fn is_met(&self, observed: Observed) -> bool {
        observed.capacity > 0 && observed.available < self.least(observed)
    }

    pub fn message(&self, observed: Observed) -> String {
        format!(
            "The node was low on resource: {}. Threshold quantity: {}, available: {}. ",
            self.signal.resource(),
            binary(self.least(observed)),
            binary(observed.available)
        )
    }
}

/// Upstream's `evictionHard`.
pub const DEFAULT: &str =
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%";

/// Thresholds in the form of upstream's `--eviction-hard`: `memory.available<100Mi,nodefs.available<10%`. Memory comes
/// first, for it is reclaimed first.
///
/// # Errors
/// A signal that there is none, or a value that is neither a quantity nor a share.
pub fn thresholds(text: &str) -> Result<Vec<Threshold>, String> {
    let mut out = Vec::new();
    for statement in text.split(',').map(str::trim).filter(|statement| !statement.is_empty()) {
        let (name, value) = statement
            .split_once('<')
            .ok_or_else(|| format!("invalid eviction threshold {statement:?}: must be signal<value"))?;
        let signal = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, signal)| *signal);
        let signal = signal.ok_or_else(|| format!("unsupported eviction signal {name}"))?;
        let least = match value.strip_suffix('%') {
            Some("0" | "100") => continue,
            Some(share) => {
                let share: f64 = share.parse().map_err(|_| format!("eviction percentage threshold {name}: {value}"))?;
                if !(0.0..=100.0).contains(&share) {
                    return Err(format!("eviction percentage threshold {name} must be between 0% and 100%: {value}"));
                }
                Least::Share(share / 100.0)
            }
            None => {
                let amount = machinery::quantity::Quantity::parse(value)
                    .map_err(|error| format!("eviction threshold {name}: {value}: {error}"))?;
                match u64::try_from(amount.value()) {
                    Ok(amount) if amount > 0 => Least::Amount(amount),
                    _ => return Err(format!("eviction threshold {name} must be positive: {value}")),
                }
            }
        };
        out.push(Threshold { signal, least });
    }
    out.sort_by_key(|threshold| threshold.signal != Signal::MemoryAvailable);
    Ok(out)
}

/// A number of bytes as a quantity with the largest power of 1024 that divides it.
fn binary(bytes: u64) -> String {
    let (mut number, mut suffix) = (bytes, "");
    for next in ["Ki", "Mi", "Gi", "Ti"] {
        if number == 0 || !number.is_multiple_of(1024) {
            break;
        }
        (number, suffix) = (number / 1024, next);
    }
    format!("{number}{suffix}")
}

/// What one container uses.
#[derive(Clone, Debug, Default)]
pub struct ContainerUse {
    pub name: String,
    pub memory_bytes: u64,
    /// Its writable layer and its logs.
    pub disk_bytes: u64,
    pub processes: u64,
}

/// What a pod uses.
#[derive(Clone, Debug, Default)]
pub struct PodUse {
    pub containers: Vec<ContainerUse>,
    /// Bytes on disk of each emptyDir that is not in memory, by volume.
    pub empty_dirs: Vec<(String, u64)>,
}

impl PodUse {
    fn disk_bytes(&self) -> u64 {
        let volumes: u64 = self.empty_dirs.iter().map(|(_, bytes)| bytes).sum();
        volumes + self.containers.iter().map(|c| c.disk_bytes).sum::<u64>()
    }

    fn memory_bytes(&self) -> u64 {
        self.containers.iter().map(|c| c.memory_bytes).sum()
    }
}

fn asked(pod: &Pod, resource: &str) -> u64 {
    let requests = PodResources::from(pod).requests();
    requests.get(resource).map_or(0, |amount| amount.value().max(0)) as u64
}

/// Whether the node may evict this pod at all. Static pods would not come back.
pub fn may_be_evicted(pod: &Pod) -> bool {
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|priority| priority >= CRITICAL);
    !critical && !crate::is_static(pod)
}

/// Where a pod stands in the order of eviction; the greatest goes first: above its request, of low priority, by what it
/// uses above its request.
pub fn rank(signal: Signal, pod: &Pod, used: &PodUse) -> (bool, Reverse<i32>, i64) {
    let priority = Reverse(pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0));
    let over = |used: u64, resource: &str| used as i64 - asked(pod, resource) as i64;
    match signal {
        Signal::PidAvailable => (false, priority, used.containers.iter().map(|c| c.processes as i64).sum()),
        Signal::MemoryAvailable => {
            let over = over(used.memory_bytes(), "memory");
            (over > 0, priority, over)
        }
        _ => {
            let over = over(used.disk_bytes(), "ephemeral-storage");
            (over > 0, priority, over)
        }
    }
}

/// What the evicted pod's containers used above their requests, to follow the threshold's message.
pub fn blame(signal: Signal, pod: &Pod, used: &PodUse) -> String {
    let resource = signal.resource();
    let spec = pod.spec.as_ref();
    let declared = |name: &str| {
        let containers = spec?.containers.iter().chain(spec?.init_containers.iter().flatten());
        containers.into_iter().find(|container| container.name == name)
    };
    let sentence = |one: &ContainerUse| {
        let used = match resource {
            "memory" => one.memory_bytes,
            "ephemeral-storage" => one.disk_bytes,
            _ => return None,
        };
        let asked = request(&declared(&one.name)?.resources, resource);
        let (bytes, shown) = asked.map_or((0, "0"), |quantity| (whole(quantity), quantity.0.as_str()));
        (used as i64 > bytes).then(|| {
            let (name, used) = (&one.name, binary(used));
            format!("Container {name} was using {used}, request is {shown}, has larger consumption of {resource}. ")
        })
    };
    used.containers.iter().filter_map(sentence).collect()
}

/// Whether anything of the pod is limited in its use of disk.
pub fn is_limited(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.empty_dir.as_ref());
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    volumes.into_iter().any(|source| source.size_limit.is_some())
        || limit(&spec.resources, "ephemeral-storage").is_some()
        || containers.any(|container| limit(&container.resources, "ephemeral-storage").is_some())
}

/// The first limit of local storage that the pod has gone beyond: a volume's, the pod's, a container's.
pub fn beyond_limit(pod: &Pod, used: &PodUse) -> Option<Refusal> {
    let spec = pod.spec.as_ref()?;
    let evicted = |message: String| Some(Refusal::new("Evicted", message));
    for (name, bytes) in &used.empty_dirs {
        let volume = spec.volumes.iter().flatten().find(|volume| volume.name == *name)?;
        let Some(size) = volume.empty_dir.as_ref().and_then(|source| source.size_limit.as_ref()) else { continue };
        if whole(size) > 0 && *bytes as i64 > whole(size) {
            return evicted(format!("Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ", size.0));
        }
    }
    // A container without a limit adds nothing, as upstream sums limits.
    let total = PodResources::from(spec).limits().get("ephemeral-storage").map_or(0, |amount| amount.value());
    if total > 0 && used.disk_bytes() as i64 > total {
        let shown = binary(total as u64);
        return evicted(format!("Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "));
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(container));
    for container in spec.containers.iter().chain(sidecars) {
        let Some(most) = limit(&container.resources, "ephemeral-storage").filter(|most| whole(most) > 0) else {
            continue;
        };
        let over = |one: &&ContainerUse| one.name == container.name && one.disk_bytes as i64 > whole(most);
        if used.containers.iter().any(|one| over(&one)) {
            let name = &container.name;
            return evicted(format!("Container {name} exceeded its local ephemeral storage limit {:?}. ", most.0));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn used(memory_mib: u64, disk_mib: u64) -> PodUse {
        let one =
            ContainerUse { name: "c".into(), memory_bytes: memory_mib << 20, disk_bytes: disk_mib << 20, processes: 1 };
        PodUse { containers: vec![one], empty_dirs: Vec::new() }
    }

    #[test]
    fn thresholds_are_written_as_upstream_writes_them() {
        let all = thresholds("nodefs.available<10%, memory.available<100Mi,pid.available<0%").unwrap();
        let [memory, disk] = &all[..] else { panic!("{all:?}") };
        assert_eq!((memory.signal, disk.signal), (Signal::MemoryAvailable, Signal::NodefsAvailable));
        assert!(memory.is_met(Observed { available: (100 << 20) - 1, capacity: 1 << 30 }));
        assert!(!memory.is_met(Observed { available: 100 << 20, capacity: 1 << 30 }));
        let low = Observed { available: 99 << 10, capacity: 1 << 20 };
        assert!(disk.is_met(low) && !disk.is_met(Observed { available: 105 << 10, ..low }));
        assert!(!disk.is_met(Observed::default()), "nothing is known");
        assert_eq!(
            disk.message(low),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 104857, available: 99Ki. "
        );
        assert_eq!(thresholds(DEFAULT).unwrap().len(), 5);
        for bad in
            ["memory.available", "cpu.available<1", "memory.available<0", "nodefs.available<110%", "memory.available<x"]
        {
            assert!(thresholds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_takes_more_of_what_is_short_than_it_asked_for_goes_first() {
        let of = |priority: i32, memory: &str| {
            let requests = serde_json::json!({"memory": memory, "ephemeral-storage": "10Mi"});
            pod(
                serde_json::json!({"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]}),
            )
        };
        let all = [
            ("modest", of(0, "1Gi"), used(900, 5)),
            ("dear", of(9, "1Mi"), used(90, 500)),
            ("greedy", of(0, "1Mi"), used(50, 20)),
        ];
        let order = |signal: Signal| {
            let mut sorted: Vec<_> = all.iter().map(|(name, pod, used)| (rank(signal, pod, used), *name)).collect();
            sorted.sort();
            sorted.into_iter().rev().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(order(Signal::MemoryAvailable), ["greedy", "dear", "modest"]);
        assert_eq!(order(Signal::NodefsAvailable), ["greedy", "dear", "modest"]);
        assert_eq!(
            blame(Signal::NodefsAvailable, &all[2].1, &all[2].2),
            "Container c was using 20Mi, request is 10Mi, has larger consumption of ephemeral-storage. "
        );
        assert_eq!(blame(Signal::NodefsAvailable, &all[0].1, &all[0].2), "");
    }

    #[test]
    fn limits_of_local_storage_are_kept() {
        let message = |spec, used: &PodUse| {
            let pod = pod(spec);
            assert!(is_limited(&pod));
            beyond_limit(&pod, used).map(|refusal| refusal.message)
        };
        let volume =
            serde_json::json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]});
        let filled = |bytes| PodUse { empty_dirs: vec![("v".into(), bytes)], ..PodUse::default() };
        assert_eq!(message(volume.clone(), &filled(1 << 20)), None);
        assert_eq!(
            message(volume, &filled((1 << 20) + 1)).unwrap(),
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
        );
        let limited =
            |name: &str| serde_json::json!({"name": name, "resources": {"limits": {"ephemeral-storage": "8Mi"}}});
        let one = serde_json::json!({"containers": [limited("c")]});
        assert_eq!(message(one.clone(), &used(0, 8)), None);
        assert_eq!(
            message(one, &used(0, 9)).unwrap(),
            "Pod ephemeral local storage usage exceeds the total limit of containers 8Mi. "
        );
        let two = serde_json::json!({"containers": [limited("c"), limited("d")]});
        assert_eq!(
            message(two, &used(0, 9)).unwrap(),
            "Container c exceeded its local ephemeral storage limit \"8Mi\". "
        );
    }
}
