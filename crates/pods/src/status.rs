//! The status of a pod as upstream computes it from what its containers do.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    PodIP, PodSpec, PodStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::admission::Refusal;
use crate::amounts::qos_class;
use crate::conditions;
use crate::ports::ContainerId;
use crate::restart::{is_sidecar, should_restart};
use crate::worker::{Dead, Role, Run, Slot, Worker};

/// metav1.Time has whole seconds.
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The container id as `ContainerStatus.containerID` shows it.
pub fn shown_id(id: &ContainerId) -> String {
    format!("windlass://{}/{}/{}", id.pod_uid, id.name, id.attempt)
}

/// The status of a worker's pod now.
///
/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (generateAPIPodStatus).
pub(crate) fn compute(worker: &Worker) -> PodStatus {
    if let Some(refusal) = &worker.refused {
        return refused(worker, refusal);
    }
    let pod = &worker.pod;
    let spec = worker.spec();
    let lists = Lists::of(worker);
    let running_all = [lists.apps.as_slice(), lists.init.as_slice()].concat();
    let initialized = worker.is_initialized();
    let mut phase = phase(spec, &running_all, worker.terminal, initialized);
    let mut lists = lists;
    let failed = worker.ending.as_ref().and_then(|ending| ending.failed.clone());
    if worker.terminal {
        lists.end(spec, &worker.pod.metadata.uid.clone().unwrap_or_default());
        if !matches!(phase.as_str(), "Succeeded" | "Failed") {
            phase = "Failed".into();
        }
    }
    if failed.is_some() {
        phase = "Failed".into();
    }
    let known = pod.status.as_ref();
    if let Some(ended) = known.and_then(|s| s.phase.as_ref()).filter(|p| matches!(p.as_str(), "Succeeded" | "Failed")) {
        phase = ended.clone();
    }
    let kept = known.filter(|s| s.phase.as_deref() == Some(phase.as_str()));
    let (reason, message) = match failed {
        Some((reason, message)) => (Some(reason), Some(message)),
        None => kept.map_or((None, None), |s| (s.reason.clone(), s.message.clone())),
    };
    let conditions = conditions::compute(worker, &lists, &phase);
    let (pod_ip, pod_ips) = addresses(worker);
    let host_ips: Vec<String> = worker.host_ips.iter().map(ToString::to_string).collect();
    PodStatus {
        observed_generation: pod.metadata.generation,
        phase: Some(phase),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: host_ips.first().cloned(),
        host_ips: list(host_ips.into_iter().map(|ip| HostIP { ip }).collect()),
        pod_ip,
        pod_ips: list(pod_ips),
        start_time: Some(time(worker.start_time)),
        qos_class: Some(qos_class(pod).to_string()),
        init_container_statuses: list(lists.init),
        container_statuses: list(lists.apps),
        ephemeral_container_statuses: list(lists.ephemeral),
        ..PodStatus::default()
    }
}

/// kubernetes/kubernetes pkg/kubelet/kubelet.go (rejectPod): a refused pod has no containers to tell of.
fn refused(worker: &Worker, refusal: &Refusal) -> PodStatus {
    PodStatus {
        phase: Some("Failed".into()),
        reason: Some(refusal.reason.clone()),
        message: Some(format!("Pod was rejected: {}", refusal.message)),
        qos_class: Some(qos_class(&worker.pod).to_string()),
        start_time: Some(time(worker.start_time)),
        ..PodStatus::default()
    }
}

fn list<T>(items: Vec<T>) -> Option<Vec<T>> {
    (!items.is_empty()).then_some(items)
}

fn addresses(worker: &Worker) -> (Option<String>, Vec<PodIP>) {
    let host_network = worker.spec().host_network == Some(true);
    let ips = if host_network { &worker.host_ips } else { &worker.pod_ips };
    let ips: Vec<PodIP> = ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
    (ips.first().map(|ip| ip.ip.clone()), ips)
}

/// Statuses by role: init containers in the order of the spec, the others by name.
pub(crate) struct Lists {
    pub(crate) init: Vec<ContainerStatus>,
    pub(crate) apps: Vec<ContainerStatus>,
    ephemeral: Vec<ContainerStatus>,
}

impl Lists {
    fn of(worker: &Worker) -> Lists {
        let with_init = worker.spec().init_containers.as_ref().is_some_and(|list| !list.is_empty());
        let mut lists = Lists { init: Vec::new(), apps: Vec::new(), ephemeral: Vec::new() };
        for (index, slot) in worker.slots.iter().enumerate() {
            if slot.container.image.is_none() && slot.attempt.is_some() {
                continue;
            }
            let status = container(worker, index, slot, with_init);
            match slot.role {
                Role::Init | Role::Sidecar => lists.init.push(status),
                Role::App => lists.apps.push(status),
                Role::Ephemeral => lists.ephemeral.push(status),
            }
        }
        lists.apps.sort_by(|a, b| a.name.cmp(&b.name));
        lists.ephemeral.sort_by(|a, b| a.name.cmp(&b.name));
        lists
    }

    /// A pod that is over has no waiting containers: what never ran is told as lost.
    ///
    /// kubernetes/kubernetes pkg/kubelet/status/status_manager.go (TerminatePod).
    fn end(&mut self, spec: &PodSpec, uid: &str) {
        let moved = |s: &ContainerStatus| {
            let state = s.state.as_ref();
            state.is_some_and(|s| s.running.is_some() || s.terminated.is_some())
                || s.last_state.as_ref().is_some_and(|s| s.terminated.is_some())
        };
        let last_init_done = self.init.last().is_some_and(|s| {
            let ended = s.state.as_ref().and_then(|state| state.terminated.as_ref());
            ended.is_some_and(|ended| ended.exit_code == 0) || s.started == Some(true)
        });
        let no_init = spec.init_containers.as_ref().is_none_or(|list| list.is_empty());
        let initialized = no_init || self.apps.iter().any(moved) || last_init_done;
        let reached = self.init.iter().rposition(moved).map_or(0, |index| index + 1);
        let reached = if initialized { self.init.len() } else { reached };
        let apps = if initialized { self.apps.len() } else { 0 };
        let lost = self.init[..reached].iter_mut().chain(self.apps[..apps].iter_mut());
        for status in lost.chain(self.ephemeral.iter_mut()) {
            if status.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
                let lost = terminated(uid, &status.name, &Dead::lost(0), false);
                status.state = Some(ContainerState { terminated: Some(lost), ..ContainerState::default() });
            }
        }
    }
}

fn container(worker: &Worker, index: usize, slot: &Slot, with_init: bool) -> ContainerStatus {
    let spec = &slot.container;
    let uid = worker.pod.metadata.uid.as_deref().unwrap_or_default();
    let id = slot.attempt.map(|attempt| ContainerId { pod_uid: uid.into(), name: spec.name.clone(), attempt });
    let (state, last) = states(worker, index, slot, uid, with_init);
    let running = state.running.is_some();
    let done = state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
    let resources = id.as_ref().map(|_| spec.resources.clone().unwrap_or_default());
    ContainerStatus {
        name: spec.name.clone(),
        image: if slot.image.is_empty() { spec.image.clone().unwrap_or_default() } else { slot.image.clone() },
        image_id: slot.image_id.clone(),
        container_id: id.as_ref().map(shown_id),
        restart_count: slot.attempt.unwrap_or(0) as i32,
        ready: match slot.role {
            Role::Init => done,
            Role::Ephemeral => false,
            Role::App | Role::Sidecar => slot.is_ready(),
        },
        started: match slot.role {
            Role::Ephemeral => None,
            _ => Some(running && slot.started),
        },
        allocated_resources: resources.as_ref().and_then(|r| r.requests.clone()),
        resources: resources.filter(|_| slot.role != Role::Ephemeral),
        volume_mounts: volume_mounts(slot),
        state: Some(state),
        // Upstream always writes the field, empty or not.
        last_state: Some(last),
        ..ContainerStatus::default()
    }
}

fn volume_mounts(slot: &Slot) -> Option<Vec<VolumeMountStatus>> {
    let mounts = slot.container.volume_mounts.iter().flatten().map(|mount| {
        let read_only = mount.read_only == Some(true);
        let recursive = mount.recursive_read_only.as_deref();
        let mode = match recursive {
            Some("Enabled") | Some("IfPossible") => "Enabled",
            _ => "Disabled",
        };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| mode.to_string()),
            ..VolumeMountStatus::default()
        }
    });
    list(mounts.collect())
}

/// State and last state.
///
/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (convertToAPIContainerStatuses).
fn states(worker: &Worker, index: usize, slot: &Slot, uid: &str, with_init: bool) -> (ContainerState, ContainerState) {
    let ended = |dead: &Option<Dead>| {
        let terminated = dead.as_ref().map(|dead| terminated(uid, slot.name(), dead, true));
        ContainerState { terminated, ..ContainerState::default() }
    };
    if slot.run == Run::Running {
        let started_at = slot.started_at.map(time);
        let running = Some(ContainerStateRunning { started_at });
        return (ContainerState { running, ..ContainerState::default() }, ended(&slot.dead));
    }
    let waits = |reason: &str, message: Option<String>| {
        let waiting = Some(ContainerStateWaiting { reason: Some(reason.into()), message });
        ContainerState { waiting, ..ContainerState::default() }
    };
    let wanted = !worker.is_deleted() && !worker.terminal && worker.is_wanted(index);
    match (&slot.dead, slot.waiting.as_ref().filter(|_| wanted || slot.dead.is_none())) {
        (_, Some(waiting)) => (waits(&waiting.reason, waiting.message.clone()), ended(&slot.dead)),
        (Some(_), None) => (ended(&slot.dead), ended(&slot.dead_before)),
        (None, None) => {
            let reason = if with_init { "PodInitializing" } else { "ContainerCreating" };
            (waits(reason, None), ContainerState::default())
        }
    }
}

fn terminated(uid: &str, name: &str, dead: &Dead, with_id: bool) -> ContainerStateTerminated {
    let id = ContainerId { pod_uid: uid.into(), name: name.into(), attempt: dead.attempt };
    ContainerStateTerminated {
        container_id: with_id.then(|| shown_id(&id)),
        exit_code: dead.exit_code,
        signal: dead.signal,
        reason: Some(dead.reason.clone()),
        message: dead.message.clone(),
        started_at: dead.started.map(time),
        finished_at: dead.finished.map(time),
    }
}

/// What is counted of containers for the phase.
#[derive(Default)]
struct Tally {
    pending_init: u32,
    failed_init: u32,
    unknown: u32,
    running: u32,
    waiting: u32,
    stopped: u32,
    stopped_for_good: u32,
    succeeded: u32,
}

/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go (getPhase).
fn phase(spec: &PodSpec, statuses: &[ContainerStatus], terminal: bool, initialized: bool) -> String {
    let by_name: BTreeMap<&str, &ContainerStatus> = statuses.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut tally = Tally::default();
    for container in spec.init_containers.iter().flatten() {
        let status = by_name.get(container.name.as_str());
        if is_sidecar(container) {
            tally.sidecar(status, initialized);
        } else {
            tally.init(status, |code| should_restart(container, spec, code));
        }
    }
    for container in &spec.containers {
        tally.app(by_name.get(container.name.as_str()), |code| should_restart(container, spec, code));
    }
    tally.phase(terminal).to_string()
}

impl Tally {
    fn sidecar(&mut self, status: Option<&&ContainerStatus>, initialized: bool) {
        let Some(status) = status else {
            self.unknown += 1;
            return;
        };
        let pending = u32::from(!initialized);
        let state = status.state.as_ref();
        if state.is_some_and(|s| s.running.is_some()) {
            if status.started != Some(true) {
                self.pending_init += pending;
            }
            self.running += 1;
        } else if state.is_some_and(|s| s.waiting.is_some()) && last_exit(status).is_none() {
            self.pending_init += pending;
            self.waiting += 1;
        }
    }

    fn init(&mut self, status: Option<&&ContainerStatus>, restarts: impl Fn(i32) -> bool) {
        let code = status.and_then(|s| exit(s).or_else(|| waiting(s).then(|| last_exit(s)).flatten()));
        match code {
            None => self.pending_init += 1,
            Some(code) if code != 0 && !restarts(code) => self.failed_init += 1,
            // Upstream's count of failed init containers that restart decides nothing by itself.
            Some(_) => {}
        }
    }

    fn app(&mut self, status: Option<&&ContainerStatus>, restarts: impl Fn(i32) -> bool) {
        let Some(status) = status else {
            self.unknown += 1;
            return;
        };
        let state = status.state.as_ref();
        if state.is_some_and(|s| s.running.is_some()) {
            self.running += 1;
        } else if let Some(code) = exit(status) {
            self.stopped += 1;
            self.stopped_for_good += u32::from(!restarts(code));
            self.succeeded += u32::from(code == 0);
        } else if let Some(code) = last_exit(status) {
            self.stopped += 1;
            self.stopped_for_good += u32::from(!restarts(code));
        } else {
            self.waiting += 1;
        }
    }

    fn phase(&self, terminal: bool) -> &'static str {
        if self.failed_init > 0 {
            return "Failed";
        }
        if self.pending_init > 0 || self.waiting > 0 {
            return "Pending";
        }
        match (self.running > 0, self.unknown == 0, self.stopped > 0) {
            (true, true, _) => "Running",
            (false, true, true) if terminal && self.stopped == self.succeeded => "Succeeded",
            (false, true, true) if terminal => "Failed",
            (false, true, true) if self.stopped != self.stopped_for_good => "Running",
            (false, true, true) if self.stopped == self.succeeded => "Succeeded",
            (false, true, true) => "Failed",
            _ => "Pending",
        }
    }
}

fn waiting(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.waiting.is_some())
}

fn exit(status: &ContainerStatus) -> Option<i32> {
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}

fn last_exit(status: &ContainerStatus) -> Option<i32> {
    Some(status.last_state.as_ref()?.terminated.as_ref()?.exit_code)
}
