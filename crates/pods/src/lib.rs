//! The life of a pod on a node, as decisions: the pod worker's state machine, probes, restart and back-off rules, grace
//! periods and status; and what a container is given: environment, files, names, limits, security.
//!
//! It does no I/O, reads no clock and knows no container runtime; it talks through the ports in `ports`. Start reading at
//! `worker::Worker::step`.

pub mod amounts;
mod causes;
pub mod cgroup;
pub mod conditions;
pub mod dns;
pub mod downward;
pub mod env;
mod expand;
pub mod ports;
pub mod projection;
pub mod restart;
pub mod security;
pub mod signals;
pub mod status;
pub mod worker;
