//! The Node object and its Lease: registered once, renewed every ten seconds, told of when something changed.
//!
//! kubernetes/kubernetes pkg/kubelet/kubelet_node_status.go, nodestatus/setters.go: labels, amounts, conditions.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use journal::{Cause, Rule, Subject, What};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo, Pod,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use pods::admission::{self, Refusal};
use pods::status::time;
use pods::worker::Severity;
use serde_json::json;

use crate::host::Host;
use crate::machine::{architecture, disk};

/// How long a pod waits for the node to be read anew.
const READ_LIMIT: Duration = Duration::from_secs(5);
const LEASE_SECONDS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// An unchanged status is written this often all the same.
const STATUS_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// The hard eviction threshold, which is not allocatable.
const MEMORY_KEPT_BYTES: u64 = 100 << 20;
/// pkg/kubelet/nodestatus: how many images the Node object lists.
const IMAGES_MAX: usize = 50;

/// Registers the node and keeps it alive, until the task is dropped.
pub(crate) async fn keep(host: Arc<Host>) {
    host.events.node(Severity::Normal, "Starting", "Starting kubelet.".into());
    let mut wait = Duration::from_millis(100);
    let uid = loop {
        match register(&host).await {
            Ok(uid) => break uid,
            Err(error) => {
                tracing::warn!(error = crate::api_error(&error), "node not registered yet");
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
        }
    };
    let mut reporter = Reporter { host: Arc::clone(&host), last: None, written: Timestamp::MIN, full: Timestamp::MIN };
    let mut lease = Renewal { host, uid, held: None, renewed: Timestamp::now(), lost: false };
    let mut every = tokio::time::interval(RENEW_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        // The status goes first: a node is ready when it says so, the lease only keeps it so.
        reporter.report().await;
        lease.renew().await;
        // Until the node is ready there is no waiting for the next renewal.
        while !reporter.is_ready() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            reporter.report().await;
        }
    }
}

async fn register(host: &Host) -> kube::Result<String> {
    let api: Api<Node> = Api::all(host.client.clone());
    let name = &host.config.node_name;
    let labels = labels(host);
    let node = match api.get_opt(name).await? {
        Some(node) => {
            let have = node.metadata.labels.clone().unwrap_or_default();
            if labels.iter().all(|(key, value)| have.get(key) == Some(value)) {
                node
            } else {
                let patch = json!({"metadata": {"labels": labels}});
                api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?
            }
        }
        None => {
            let annotation = ("volumes.kubernetes.io/controller-managed-attach-detach".into(), "true".into());
            let node = Node {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: Some(labels),
                    annotations: Some(BTreeMap::from([annotation])),
                    ..ObjectMeta::default()
                },
                spec: Some(NodeSpec {
                    taints: (!host.config.taints.is_empty()).then(|| host.config.taints.clone()),
                    pod_cidr: host.config.pod_cidr.clone(),
                    pod_cidrs: host.config.pod_cidr.clone().map(|range| vec![range]),
                    ..NodeSpec::default()
                }),
                // With its status from the first moment, so that nothing waits for a second write.
                status: Some(status(host, &[], &conditions(host, None).await).await),
            };
            api.create(&PostParams::default(), &node).await?
        }
    };
    let uid = node.metadata.uid.clone().unwrap_or_default();
    host.set_node(node);
    Ok(uid)
}

/// The node as it is known without the API server.
fn local(host: &Host) -> Node {
    let (capacity, allocatable) = amounts(host);
    Node {
        metadata: ObjectMeta {
            name: Some(host.config.node_name.clone()),
            labels: Some(labels(host)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec { taints: Some(host.config.taints.clone()), ..NodeSpec::default() }),
        status: Some(NodeStatus { capacity: Some(capacity), allocatable: Some(allocatable), ..NodeStatus::default() }),
    }
}

/// Whether the node takes a pod. Labels may have changed since the node was last read, so a refusal for their sake is
/// made sure of.
///
/// kubernetes/kubernetes pkg/kubelet/lifecycle/predicate.go (generalFilter).
pub(crate) async fn admit(host: &Host, pod: &Pod) -> Result<(), Refusal> {
    let others = host.pods_beside(crate::host::uid(pod));
    let seen = host.node.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // What the node has is known best here.
    let with_amounts = |mut node: Node| {
        node.status = local(host).status;
        node
    };
    let node = seen.map_or_else(|| local(host), with_amounts);
    match admission::admit(pod, &node, &others) {
        Err(refusal) if refusal.reason == "NodeAffinity" => {
            let api: Api<Node> = Api::all(host.client.clone());
            match tokio::time::timeout(READ_LIMIT, api.get(&host.config.node_name)).await {
                Ok(Ok(node)) => {
                    host.set_node(node.clone());
                    admission::admit(pod, &with_amounts(node), &others)
                }
                _ => Err(refusal),
            }
        }
        decided => decided,
    }
}

fn labels(host: &Host) -> BTreeMap<String, String> {
    let own = [
        ("beta.kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("kubernetes.io/hostname", &host.config.node_name),
        ("kubernetes.io/os", "linux"),
    ];
    let own = own.map(|(key, value)| (key.to_string(), value.to_string()));
    own.into_iter().chain(host.config.node_labels.clone()).collect()
}

fn amounts(host: &Host) -> (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>) {
    let machine = &host.machine;
    let storage = disk(&host.config.data_dir).capacity_bytes;
    let of = |memory_bytes: u64, storage: String| {
        BTreeMap::from([
            ("cpu".to_string(), Quantity(machine.cpus.to_string())),
            ("ephemeral-storage".to_string(), Quantity(storage)),
            ("hugepages-1Gi".to_string(), Quantity("0".into())),
            ("hugepages-2Mi".to_string(), Quantity("0".into())),
            ("memory".to_string(), Quantity(format!("{}Ki", memory_bytes / 1024))),
            ("pods".to_string(), Quantity(host.config.max_pods.to_string())),
        ])
    };
    let capacity = of(machine.memory_bytes, format!("{}Ki", storage / 1024));
    let allocatable = of(machine.memory_bytes.saturating_sub(MEMORY_KEPT_BYTES), (storage / 10 * 9).to_string());
    (capacity, allocatable)
}

/// The node's conditions now; times of change are taken over from `before` where nothing changed.
async fn conditions(host: &Host, before: Option<&[NodeCondition]>) -> Vec<NodeCondition> {
    let now = time(Timestamp::now());
    let one = |kind: &str, holds: bool, reason: &str, message: String| {
        let status = if holds { "True" } else { "False" };
        let same = before.into_iter().flatten().find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(now.clone())),
        }
    };
    let pressure = &host.pressure;
    let pick = |holds: bool, yes: (&'static str, &str), no: (&'static str, &str)| {
        let (reason, message) = if holds { yes } else { no };
        (holds, reason, message.to_string())
    };
    let (memory, memory_reason, memory_message) = pick(
        pressure.memory(),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    );
    let (disk, disk_reason, disk_message) = pick(
        pressure.disk(),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    );
    let (pids, pids_reason, pids_message) = pick(
        pressure.pids(),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    );
    let ready = match host.network.ready().await {
        None => one("Ready", true, "KubeletReady", "kubelet is posting ready status".into()),
        Some(why) => {
            let message = format!(
                "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{why}"
            );
            one("Ready", false, "KubeletNotReady", message)
        }
    };
    vec![
        one("MemoryPressure", memory, memory_reason, memory_message),
        one("DiskPressure", disk, disk_reason, disk_message),
        one("PIDPressure", pids, pids_reason, pids_message),
        ready,
    ]
}

async fn status(host: &Host, images: &[ContainerImage], conditions: &[NodeCondition]) -> NodeStatus {
    let (capacity, allocatable) = amounts(host);
    let ips = host.config.node_ips.iter().map(|ip| ("InternalIP", ip.to_string()));
    let addresses = ips.chain([("Hostname", host.config.node_name.clone())]);
    let machine = &host.machine;
    let port = host.config.listen.map_or(10250, |listen| listen.port());
    NodeStatus {
        addresses: Some(addresses.map(|(kind, address)| NodeAddress { type_: kind.into(), address }).collect()),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        conditions: Some(conditions.to_vec()),
        daemon_endpoints: Some(NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: port.into() }) }),
        images: (!images.is_empty()).then(|| images.to_vec()),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: host.config.runtime_version.clone(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: host.config.version.clone(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

async fn images(host: &Host) -> Vec<ContainerImage> {
    let mut images = match host.runtime.images().await {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!(%error, "images not listed");
            return Vec::new();
        }
    };
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    let shown = images.into_iter().take(IMAGES_MAX).map(|image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
        size_bytes: Some(image.size_bytes as i64),
    });
    shown.collect()
}

struct Reporter {
    host: Arc<Host>,
    last: Option<NodeStatus>,
    written: Timestamp,
    /// When the costly parts were looked at last.
    full: Timestamp,
}

impl Reporter {
    fn is_ready(&self) -> bool {
        let conditions = self.last.as_ref().and_then(|s| s.conditions.as_ref());
        conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
    }

    /// Writes the status when it changed or has not been written for long.
    async fn report(&mut self) {
        let now = Timestamp::now();
        let host = Arc::clone(&self.host);
        let before = self.last.as_ref().and_then(|s| s.conditions.clone());
        let conditions = conditions(&host, before.as_deref()).await;
        let old = now.duration_since(self.full) >= STATUS_EVERY;
        let images = match (&self.last, old) {
            (Some(last), false) => last.images.clone().unwrap_or_default(),
            _ => {
                self.full = now;
                images(&host).await
            }
        };
        let status = status(&host, &images, &conditions).await;
        let due = now.duration_since(self.written) >= STATUS_EVERY;
        if !due && self.last.as_ref().is_some_and(|last| same(last, &status)) {
            return;
        }
        let api: Api<Node> = Api::all(host.client.clone());
        let patch = json!({"status": status});
        match api.patch_status(&host.config.node_name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(node) => {
                host.set_node(node);
                host.reported.send_replace(true);
                self.tell(before.as_deref(), &conditions);
                self.last = Some(status);
                self.written = now;
            }
            Err(error) => tracing::warn!(error = crate::api_error(&error), "node status not written"),
        }
    }

    /// Events for conditions that changed.
    fn tell(&self, before: Option<&[NodeCondition]>, after: &[NodeCondition]) {
        let name = &self.host.config.node_name;
        for condition in after {
            let old = before.into_iter().flatten().find(|c| c.type_ == condition.type_);
            if old.is_some_and(|old| old.status == condition.status) {
                continue;
            }
            let holds = condition.status == "True";
            let reason = match (condition.type_.as_str(), holds) {
                ("Ready", true) => "NodeReady",
                ("Ready", false) => "NodeNotReady",
                ("MemoryPressure", true) => "NodeHasInsufficientMemory",
                ("MemoryPressure", false) => "NodeHasSufficientMemory",
                ("DiskPressure", true) => "NodeHasDiskPressure",
                ("DiskPressure", false) => "NodeHasNoDiskPressure",
                ("PIDPressure", true) => "NodeHasInsufficientPID",
                _ => "NodeHasSufficientPID",
            };
            self.host.events.node(Severity::Normal, reason, format!("Node {name} status is now: {reason}"));
        }
    }
}

/// Equal but for the heartbeats.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    still(a) == still(b)
}

/// The node's lease: one write a renewal, based on the object that the last write returned.
struct Renewal {
    host: Arc<Host>,
    uid: String,
    held: Option<Lease>,
    /// When it was renewed last.
    renewed: Timestamp,
    /// It has run out since, which is on record.
    lost: bool,
}

impl Renewal {
    async fn renew(&mut self) {
        // A second try right away covers a lease that somebody else wrote or took away.
        for _ in 0..2 {
            match self.write().await {
                Ok(lease) => {
                    self.held = Some(lease);
                    (self.renewed, self.lost) = (Timestamp::now(), false);
                    return;
                }
                Err(error) => {
                    self.held = None;
                    tracing::debug!(error = crate::api_error(&error), "node lease not renewed");
                }
            }
        }
        self.look_if_lost(Timestamp::now());
    }

    /// A lease that nobody has renewed in its time makes the node's pods fair game for others.
    fn look_if_lost(&mut self, now: Timestamp) {
        let ended = now.duration_since(self.renewed) > SignedDuration::from_secs(LEASE_SECONDS.into());
        if ended && !std::mem::replace(&mut self.lost, true) {
            let lease = format!("kube-node-lease/{}", self.host.config.node_name);
            let because = Cause::kubelet(Rule::NotRenewed, Vec::new());
            self.host.record(Subject::node(), What::LeaseLost { lease, because });
        }
        self.lost &= ended;
    }

    async fn write(&self) -> kube::Result<Lease> {
        let api: Api<Lease> = Api::namespaced(self.host.client.clone(), "kube-node-lease");
        let name = &self.host.config.node_name;
        let base = match &self.held {
            Some(lease) => Some(lease.clone()),
            None => api.get_opt(name).await?,
        };
        let now = Some(MicroTime(Timestamp::now()));
        match base {
            Some(mut lease) => {
                let spec = lease.spec.get_or_insert_default();
                spec.renew_time = now;
                spec.holder_identity = Some(name.clone());
                spec.lease_duration_seconds = Some(LEASE_SECONDS);
                api.replace(name, &PostParams::default(), &lease).await
            }
            None => {
                let owner = OwnerReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: name.clone(),
                    uid: self.uid.clone(),
                    ..OwnerReference::default()
                };
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        namespace: Some("kube-node-lease".into()),
                        owner_references: Some(vec![owner]),
                        ..ObjectMeta::default()
                    },
                    spec: Some(LeaseSpec {
                        holder_identity: Some(name.clone()),
                        lease_duration_seconds: Some(LEASE_SECONDS),
                        renew_time: now,
                        ..LeaseSpec::default()
                    }),
                };
                api.create(&PostParams::default(), &lease).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fakes::{Api, Net, Run, Tape};

    #[tokio::test]
    async fn a_lease_that_ran_out_is_on_record_once() {
        let tape = Arc::new(Tape::default());
        let config = crate::KubeletConfig::new("node-1", vec!["192.168.0.1".parse().unwrap()]);
        let client = Api::default().client();
        let host = Host::new(config, Arc::new(Run::default()), Arc::new(Net), tape.clone(), client);
        let renewed = Timestamp::from_second(1_000_000).unwrap();
        let mut lease = Renewal { host: Arc::new(host), uid: "n".into(), held: None, renewed, lost: false };
        let after = |seconds| renewed.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        lease.look_if_lost(after(40));
        assert_eq!(tape.story(""), "");
        lease.look_if_lost(after(41));
        lease.look_if_lost(after(51));
        let story = tape.story("");
        assert!(
            story.starts_with("LeaseLost { lease: \"kube-node-lease/node-1\"") && story.lines().count() == 1,
            "{story}"
        );
    }
}
