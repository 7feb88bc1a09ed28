//! Why a pod or a container is ended: the causes that the pod worker decides by.

use journal::{Cause, Probe, RecordId, Rule};

pub(crate) fn deleted() -> Cause {
    Cause::kubelet(Rule::PodDeleted, Vec::new())
}

pub(crate) fn manifest_removed() -> Cause {
    Cause::kubelet(Rule::ManifestRemoved, Vec::new())
}

/// `evidence`: the exits of the containers that the pod waited for.
pub(crate) fn completed(evidence: Vec<RecordId>) -> Cause {
    Cause::kubelet(Rule::PodCompleted, evidence)
}

pub(crate) fn deadline_exceeded() -> Cause {
    Cause::kubelet(Rule::DeadlineExceeded, Vec::new())
}

/// `evidence`: the exit of the container that keeps failing.
pub(crate) fn crash_back_off(evidence: Vec<RecordId>) -> Cause {
    Cause::kubelet(Rule::CrashBackOff, evidence)
}

/// `evidence`: the failed pull.
pub(crate) fn pull_back_off(evidence: Vec<RecordId>) -> Cause {
    Cause::kubelet(Rule::PullBackOff, evidence)
}

pub(crate) fn definition_changed() -> Cause {
    Cause::kubelet(Rule::DefinitionChanged, Vec::new())
}

pub(crate) fn post_start_failed() -> Cause {
    Cause::kubelet(Rule::PostStartFailed, Vec::new())
}

/// `evidence`: the unhealthy attempts in a row.
pub(crate) fn probe_failed(probe: Probe, evidence: Vec<RecordId>) -> Cause {
    let rule = if probe == Probe::Startup { Rule::StartupProbe } else { Rule::LivenessProbe };
    Cause::kubelet(rule, evidence)
}

/// The stop signal was not followed; what it was sent for stays the evidence.
pub(crate) fn grace_expired(first: &Cause) -> Cause {
    Cause::kubelet(Rule::GraceExpired, first.evidence.clone())
}

#[cfg(test)]
pub(crate) fn shown(cause: &Cause) -> String {
    let evidence: Vec<u64> = cause.evidence.iter().map(|id| id.0).collect();
    format!("{:?} {evidence:?}", cause.rule)
}
