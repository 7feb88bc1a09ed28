//! The life of a pod on a node, as decisions: the pod worker's state machine, probes, restart and back-off rules, grace
//! periods and status. It does no I/O and knows no container runtime; it talks through the ports in `ports`.
pub mod ports;
