//! The conditions of a pod that the kubelet owns.
//!
//! kubernetes/kubernetes pkg/kubelet/status/generate.go: which there are, and their reasons and messages.

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};

use journal::Rule;

use crate::restart::is_sidecar;
use crate::status::{Lists, time};
use crate::worker::{Why, Worker, title};

/// A condition of our own: a probe could not be asked, so nothing is known of the container's health.
pub const PROBE_NOT_ASKED: &str = "windlass.dev/ProbeNotAsked";

/// Types that the kubelet writes; every other condition belongs to somebody else and is left alone.
pub const OWNED: [&str; 7] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "DisruptionTarget",
    PROBE_NOT_ASKED,
];

struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Verdict {
        Verdict { holds: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Verdict {
        Verdict { holds: false, reason: Some(reason), message }
    }
}

/// The kubelet's conditions, with the time of the last change of each.
pub(crate) fn compute(worker: &Worker, lists: &Lists, phase: &str) -> Vec<PodCondition> {
    let containers_ready = containers_ready(worker, lists, phase);
    let ready = ready(worker, &containers_ready);
    let mut all = vec![
        ("PodReadyToStartContainers", ready_to_start(worker)),
        ("Initialized", initialized(worker, lists, phase)),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::yes()),
    ];
    all.extend(probe_not_asked(worker).map(|verdict| (PROBE_NOT_ASKED, verdict)));
    if let Some(message) = disruption(worker) {
        let verdict = Verdict { holds: true, reason: Some("TerminationByKubelet"), message: Some(message) };
        all.push(("DisruptionTarget", verdict));
    }
    all.into_iter().map(|(kind, verdict)| condition(worker, kind, verdict)).collect()
}

fn condition(worker: &Worker, kind: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let reported = worker.reported.as_ref().and_then(|s| s.conditions.as_ref());
    let known = worker.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let before = [reported, known].into_iter().flatten().flatten().find(|c| c.type_ == kind && c.status == status);
    PodCondition {
        type_: kind.into(),
        status: status.into(),
        reason: verdict.reason.map(str::to_string),
        message: verdict.message,
        observed_generation: worker.pod.metadata.generation,
        last_probe_time: None,
        last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(time(worker.now))),
    }
}

fn ready_to_start(worker: &Worker) -> Verdict {
    // A pod that needs no sandbox any more has none; upstream says so for a pod that is over too.
    if worker.sandbox == crate::worker::Sandbox::Ready {
        Verdict::yes()
    } else {
        Verdict { holds: false, ..Verdict::yes() }
    }
}

fn named<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == name)
}

/// Names as Go prints a slice: `[a b]`.
fn names(kind: &str, of: &[&str]) -> Option<String> {
    (!of.is_empty()).then(|| format!("containers with {kind} status: [{}]", of.join(" ")))
}

fn join(parts: [Option<String>; 2]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn containers_ready(worker: &Worker, lists: &Lists, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", None),
        "Failed" => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let spec = worker.spec();
    let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c)).map(|c| (c, &lists.init));
    let apps = spec.containers.iter().map(|c| (c, &lists.apps));
    let (mut unknown, mut unready) = (Vec::new(), Vec::new());
    for (container, statuses) in sidecars.chain(apps) {
        match named(statuses, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) if !status.ready => unready.push(container.name.as_str()),
            Some(_) => {}
        }
    }
    match join([names("unknown", &unknown), names("unready", &unready)]) {
        None => Verdict::yes(),
        message => Verdict::no("ContainersNotReady", message),
    }
}

fn ready(worker: &Worker, containers: &Verdict) -> Verdict {
    if !containers.holds {
        return Verdict { holds: false, reason: containers.reason, message: containers.message.clone() };
    }
    let conditions = worker.pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let mut unmet = Vec::new();
    for gate in worker.spec().readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match conditions.into_iter().flatten().find(|c| c.type_ == *kind) {
            None => unmet.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(c) if c.status != "True" => {
                unmet.push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {}", c.status));
            }
            Some(_) => {}
        }
    }
    if unmet.is_empty() { Verdict::yes() } else { Verdict::no("ReadinessGatesNotReady", Some(unmet.join(", "))) }
}

fn initialized(worker: &Worker, lists: &Lists, phase: &str) -> Verdict {
    let (mut unknown, mut incomplete) = (Vec::new(), Vec::new());
    for container in worker.spec().init_containers.iter().flatten() {
        match named(&lists.init, &container.name) {
            None => unknown.push(container.name.as_str()),
            Some(status) => {
                let done = if is_sidecar(container) { status.started == Some(true) } else { status.ready };
                if !done {
                    incomplete.push(container.name.as_str());
                }
            }
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict { reason: Some("PodCompleted"), ..Verdict::yes() };
    }
    let started = worker.is_initialized();
    match join([names("unknown", &unknown), names("incomplete", &incomplete)]) {
        None => Verdict::yes(),
        Some(_) if started => Verdict::yes(),
        message => Verdict::no("ContainersNotInitialized", message),
    }
}

/// Present from the first time on that a probe could not be asked.
fn probe_not_asked(worker: &Worker) -> Option<Verdict> {
    let mut texts = Vec::new();
    for slot in &worker.slots {
        for (kind, obstacle) in slot.obstacles() {
            texts.push(format!("{} probe of container {}: {obstacle}", title(kind), slot.name()));
        }
    }
    let before = worker.reported.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let seen = before.into_iter().any(|c| c.type_ == PROBE_NOT_ASKED);
    match (texts.is_empty(), seen) {
        (false, _) => Some(Verdict { holds: true, reason: Some("ProbeNotAsked"), message: Some(texts.join("; ")) }),
        (true, true) => Some(Verdict { holds: false, reason: Some("ProbesAsked"), message: None }),
        (true, false) => None,
    }
}

/// The message of an eviction for the node's sake, which Jobs look at. A pod beyond its own limits was not disrupted.
fn disruption(worker: &Worker) -> Option<String> {
    let ending = worker.ending.as_ref()?;
    let (_, message) = ending.failed.as_ref()?;
    matches!(&ending.why, Why::Evicted(because) if because.rule == Rule::NodePressure).then(|| message.clone())
}
