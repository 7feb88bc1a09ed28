//! Why something was done: who decided, by which rule, on which records.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::RecordId;

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Decider {
    Kubelet,
    Kernel,
    Scheduler,
    /// A controller by its name (`replicaset-controller`).
    Controller(String),
    /// Somebody at the API, by user name.
    User(String),
    ApiServer,
    Store,
    /// Whoever ran a command on the node (`windlass down`).
    Operator(String),
    /// The node's process learnt of it only as a fact; nobody said who.
    Unknown,
}

impl Decider {
    /// Who it is that has this name at the API.
    pub fn of_user(name: &str) -> Self {
        match name {
            "system:kube-scheduler" => Self::Scheduler,
            "system:apiserver" => Self::ApiServer,
            "system:kube-controller-manager" => Self::Controller("kube-controller-manager".into()),
            name if name.starts_with("system:node:") => Self::Kubelet,
            name => match name.strip_prefix("system:serviceaccount:kube-system:") {
                Some(controller) => Self::Controller(controller.into()),
                None => Self::User(name.into()),
            },
        }
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubelet => f.write_str("the kubelet"),
            Self::Kernel => f.write_str("the kernel"),
            Self::Scheduler => f.write_str("the scheduler"),
            Self::Controller(name) => write!(f, "controller {name}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::ApiServer => f.write_str("the API server"),
            Self::Store => f.write_str("the store"),
            Self::Operator(command) => write!(f, "`{command}` on the node"),
            Self::Unknown => f.write_str("somebody unknown"),
        }
    }
}

/// By which rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    LivenessProbe,
    StartupProbe,
    /// The pod was deleted.
    PodDeleted,
    /// A static pod's file was removed.
    ManifestRemoved,
    /// The stop signal was not followed within the grace period.
    GraceExpired,
    /// Every container that the pod waits for is done; sidecars go.
    PodCompleted,
    /// `activeDeadlineSeconds` has passed.
    DeadlineExceeded,
    /// The container's image or resources were changed in the spec.
    DefinitionChanged,
    PostStartFailed,
    /// The sandbox was lost or no longer fits the pod.
    SandboxChanged,
    /// The pod's restart policy wants it to run.
    RestartPolicy,
    /// It failed before: wait longer each time.
    CrashBackOff,
    PullBackOff,
    OutOfMemory,
    NodePressure,
    /// The pod used more local storage than it may.
    StorageLimit,
    NodeNotReady,
    Preempted,
    /// The pod is not, or no longer, one of this node's.
    Orphaned,
    /// The node's process was told to stop or to take its pods down.
    NodeStopped,
    Unauthorized,
    Overload,
    NotRenewed,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LivenessProbe => "its liveness probe failed too often",
            Self::StartupProbe => "its startup probe failed too often",
            Self::PodDeleted => "the pod was deleted",
            Self::ManifestRemoved => "the static pod's file was removed",
            Self::GraceExpired => "the grace period was over",
            Self::PodCompleted => "the pod had completed",
            Self::DeadlineExceeded => "activeDeadlineSeconds had passed",
            Self::DefinitionChanged => "the container's definition was changed",
            Self::PostStartFailed => "its postStart hook failed",
            Self::SandboxChanged => "the pod's sandbox was lost or changed",
            Self::RestartPolicy => "the restart policy wants it to run",
            Self::CrashBackOff => "it keeps failing",
            Self::PullBackOff => "its image could not be pulled",
            Self::OutOfMemory => "out of memory",
            Self::NodePressure => "the node was short of a resource",
            Self::StorageLimit => "it used more local storage than its limit",
            Self::NodeNotReady => "the node was not ready",
            Self::Preempted => "a pod of higher priority needed the room",
            Self::Orphaned => "the pod is not one of this node's",
            Self::NodeStopped => "the node was told to stop",
            Self::Unauthorized => "not allowed",
            Self::Overload => "too many requests",
            Self::NotRenewed => "it was not renewed in time",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    pub decider: Decider,
    pub rule: Rule,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<RecordId>,
}

impl Cause {
    pub fn new(decider: Decider, rule: Rule, evidence: Vec<RecordId>) -> Self {
        Self { decider, rule, evidence }
    }

    /// The kubelet's own decision.
    pub fn kubelet(rule: Rule, evidence: Vec<RecordId>) -> Self {
        Self::new(Decider::Kubelet, rule, evidence)
    }
}
