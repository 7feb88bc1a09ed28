//! The life of a pod on a node, as decisions: the pod worker's state machine, probes, restart and back-off rules, grace
//! periods and status; and what a container is given: environment, files, names, limits, security.
//!
//! It does no I/O, reads no clock and knows no container runtime; it talks through the ports in `ports`. Start reading at
//! `worker::Worker::step`.

pub mod admission;
pub mod amounts;
mod causes;
pub mod cgroup;
pub mod conditions;
pub mod dns;
pub mod downward;
pub mod env;
pub mod env_file;
pub mod eviction;
mod expand;
pub mod ports;
pub mod projection;
pub mod restart;
pub mod security;
pub mod signals;
pub mod status;
pub mod sysctls;
pub mod trust;
pub mod worker;

use k8s_openapi::api::core::v1::Pod;

/// Whether the pod comes from a file on the node.
pub fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.source"));
    source.is_some_and(|source| source != "api")
}
