//! Whether a node takes a pod: what it asks for must be there, and nothing that it wants may be forbidden here.
//!
//! kubernetes/kubernetes pkg/kubelet/lifecycle/predicate.go: the checks, their order, reasons and messages.

/// Why a node does not take a pod; it becomes `Failed` with these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `OutOfcpu`, `NodeAffinity`, `SysctlForbidden` ...
    pub reason: String,
    pub message: String,
}

impl Refusal {
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal { reason: reason.into(), message: message.into() }
    }
}
