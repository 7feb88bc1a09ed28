//! What the rules look at in a pod, taken from the object once.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, PodSpec, Toleration, WeightedPodAffinityTerm};

use crate::affinity::{Labels, PodTerm};
use crate::amounts::{Asked, asked};

/// Names a pod, this incarnation of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl PodRef {
    pub fn of(pod: &Pod) -> Self {
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        }
    }
}

/// Protocol, host address (`0.0.0.0` for all) and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: String,
    pub address: String,
    pub port: i32,
}

impl HostPort {
    /// An address meets itself and the address that means all.
    pub fn meets(&self, other: &HostPort) -> bool {
        let all = |address: &str| address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || all(&self.address) || all(&other.address))
    }
}

#[derive(Debug)]
pub struct PodView {
    pub pod: Arc<Pod>,
    pub key: PodRef,
    pub labels: Labels,
    pub asked: Asked,
    pub host_ports: Vec<HostPort>,
    pub required_affinity: Vec<PodTerm>,
    pub required_anti_affinity: Vec<PodTerm>,
    pub preferred_affinity: Vec<PodTerm>,
    pub preferred_anti_affinity: Vec<PodTerm>,
}

static NO_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);

impl PodView {
    pub fn new(pod: Arc<Pod>) -> Self {
        let key = PodRef::of(&pod);
        let spec = pod.spec.as_ref().unwrap_or(&NO_SPEC);
        let affinity = spec.affinity.clone().unwrap_or_default();
        let required = |terms: &Option<Vec<PodAffinityTerm>>| -> Vec<PodTerm> {
            terms.iter().flatten().map(|term| PodTerm::new(term, 0, &key.namespace)).collect()
        };
        let preferred = |terms: &Option<Vec<WeightedPodAffinityTerm>>| -> Vec<PodTerm> {
            let terms = terms.iter().flatten();
            terms.map(|term| PodTerm::new(&term.pod_affinity_term, term.weight.into(), &key.namespace)).collect()
        };
        let (with, without) =
            (affinity.pod_affinity.unwrap_or_default(), affinity.pod_anti_affinity.unwrap_or_default());
        Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            asked: asked(&pod),
            host_ports: host_ports(spec),
            required_affinity: required(&with.required_during_scheduling_ignored_during_execution),
            required_anti_affinity: required(&without.required_during_scheduling_ignored_during_execution),
            preferred_affinity: preferred(&with.preferred_during_scheduling_ignored_during_execution),
            preferred_anti_affinity: preferred(&without.preferred_during_scheduling_ignored_during_execution),
            key,
            pod,
        }
    }

    pub fn spec(&self) -> &PodSpec {
        self.pod.spec.as_ref().unwrap_or(&NO_SPEC)
    }

    pub fn namespace(&self) -> &str {
        &self.key.namespace
    }

    pub fn node_name(&self) -> Option<&str> {
        self.spec().node_name.as_deref().filter(|name| !name.is_empty())
    }

    pub fn nominated_node(&self) -> Option<&str> {
        let status = self.pod.status.as_ref()?;
        status.nominated_node_name.as_deref().filter(|name| !name.is_empty())
    }

    pub fn priority(&self) -> i32 {
        self.spec().priority.unwrap_or(0)
    }

    pub fn tolerations(&self) -> &[Toleration] {
        self.spec().tolerations.as_deref().unwrap_or_default()
    }

    pub fn is_terminating(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Succeeded or failed: it uses nothing any more.
    pub fn is_over(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    pub fn created(&self) -> Timestamp {
        self.pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    }

    pub fn start_time(&self) -> Option<Timestamp> {
        self.pod.status.as_ref()?.start_time.as_ref().map(|time| time.0)
    }

    pub fn has_affinity(&self) -> bool {
        !self.required_affinity.is_empty()
            || !self.required_anti_affinity.is_empty()
            || !self.preferred_affinity.is_empty()
            || !self.preferred_anti_affinity.is_empty()
    }
}

/// Ports of containers and sidecars (kubernetes/kubernetes pkg/scheduler/util/utils.go, GetHostPorts).
fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let is_sidecar = |policy: &Option<String>| policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(|container| is_sidecar(&container.restart_policy));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let wanted = ports.filter_map(|port| {
        let number = port.host_port.filter(|port| *port > 0)?;
        let or = |text: &Option<String>, otherwise: &str| {
            text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| otherwise.to_string())
        };
        Some(HostPort { protocol: or(&port.protocol, "TCP"), address: or(&port.host_ip, "0.0.0.0"), port: number })
    });
    wanted.collect()
}
