//! The pod worker: one pod on one node as a state machine. What happens goes in as an `Event` with the time, what is to
//! be done comes out as `Action`s. It keeps no clock and does no I/O, so a whole life of a pod is a table in a test.
//!
//! Where to start: `Worker::step`; `start` brings containers up, `stop` takes them down, `probe` asks them, `adopt` finds
//! them again after the node's process was restarted.

mod adopt;
mod probe;
mod slot;
mod start;
mod stop;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use journal::{Cause, Outcome, RecordId};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};

pub use adopt::Found;
pub use probe::{ProbeKind, declared, title};
pub use slot::{Dead, Reason, Role, Run, Slot};
pub use stop::{Ending, Why};

use crate::admission::Refusal;
use crate::ports::Exit;
use crate::status;

/// What the worker is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A newer version of the pod, from the API server or a static pod's file.
    Spec(Arc<Pod>),
    /// The object is no longer there: deleted without grace, or its static pod's file was removed.
    Gone,
    SandboxReady {
        addresses: Vec<IpAddr>,
    },
    SandboxFailed {
        message: String,
    },
    VolumesReady,
    ImageReady {
        container: String,
    },
    ImageFailed {
        container: String,
        reason: String,
        message: String,
        /// The failed pull's entry in the journal.
        record: Option<RecordId>,
    },
    Started {
        container: String,
        attempt: u32,
        at: Timestamp,
        image: String,
        image_id: String,
        stop_signal: Option<String>,
    },
    StartFailed {
        container: String,
        attempt: u32,
        failure: StartFailure,
    },
    Hooked {
        container: String,
        attempt: u32,
        hook: Hook,
        error: Option<String>,
    },
    /// `message` is the termination message; `record` explains the exit.
    Exited {
        container: String,
        attempt: u32,
        exit: Exit,
        message: Option<String>,
        record: Option<RecordId>,
    },
    /// `record` is the attempt's entry in the journal.
    Probed {
        container: String,
        attempt: u32,
        probe: ProbeKind,
        outcome: Outcome,
        output: String,
        record: Option<RecordId>,
    },
    /// Sandbox, network, mounts and cgroup are gone.
    Removed,
    Evict {
        reason: String,
        message: String,
        grace_seconds: i64,
        because: Cause,
    },
    /// An object that the pod refers to has changed; what failed for want of it may be tried at once.
    SourcesChanged,
    /// The time that `WakeAt` asked for has come.
    Clock,
    Adopted(Found),
    /// The node does not take the pod. It comes instead of everything else.
    Refused(Refusal),
}

/// Why a container did not come up.
#[derive(Clone, Debug, PartialEq)]
pub enum StartFailure {
    /// Its configuration could not be made (a missing key, a root user where none may be).
    Config(String),
    /// The runtime could not create it.
    Create(String),
    /// It was created, but its program could not be started.
    Run { message: String, exit_code: Option<i32> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    PostStart,
    PreStop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

/// What the worker wants done. Every action is answered by the event of the same subject.
#[derive(Clone, Debug)]
pub enum Action {
    /// Make the sandbox and its network.
    CreateSandbox,
    /// Set up every volume; retried by the shell until it works.
    Mount,
    /// Have the container's image, by its pull policy.
    Pull {
        container: String,
    },
    Start {
        container: String,
        attempt: u32,
    },
    /// Bring new resources of a running container into effect.
    Resize {
        container: String,
        attempt: u32,
    },
    Hook {
        container: String,
        attempt: u32,
        hook: Hook,
        deadline: Option<Timestamp>,
    },
    Probe {
        container: String,
        attempt: u32,
        probe: ProbeKind,
    },
    /// Send a signal. There is none without a cause.
    Signal {
        container: String,
        attempt: u32,
        signal: i32,
        because: Cause,
    },
    /// A dead container whose successor runs is no longer needed.
    Remove {
        container: String,
        attempt: u32,
    },
    /// Take everything away: sandbox, network, mounts, cgroup.
    RemoveSandbox {
        because: Cause,
    },
    Report(Box<PodStatus>),
    /// Tell the user: a Kubernetes event on the pod or one of its containers.
    Tell {
        severity: Severity,
        reason: &'static str,
        message: String,
        container: Option<String>,
    },
    /// A container waits before it is started or its image is pulled again: for the journal.
    BackedOff {
        container: String,
        wait: SignedDuration,
        because: Cause,
    },
    /// Delete the object at the API server: nothing of the pod is left here.
    Delete,
    /// The worker has nothing more to do for this pod.
    Done,
    WakeAt(Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sandbox {
    Absent,
    Creating,
    Ready,
    Failed { retry_at: Timestamp },
    Removing,
    Gone,
}

/// One pod.
pub struct Worker {
    pub(crate) pod: Arc<Pod>,
    pub(crate) host_ips: Vec<IpAddr>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) sandbox: Sandbox,
    sandbox_failures: u32,
    mounting: bool,
    mounted: bool,
    pub(crate) pod_ips: Vec<IpAddr>,
    pub(crate) ending: Option<Ending>,
    /// Nothing runs any more and nothing will: the final phase may be told.
    pub(crate) terminal: bool,
    gone: bool,
    pub(crate) refused: Option<Refusal>,
    /// The final deletion has been asked for.
    handed_back: bool,
    pub(crate) start_time: Timestamp,
    pub(crate) reported: Option<PodStatus>,
    pub(crate) now: Timestamp,
    woken_for: Option<Timestamp>,
    out: Vec<Action>,
}

impl Worker {
    /// A worker for `pod` on a node with these addresses. It acts with the first `step`.
    pub fn new(pod: Arc<Pod>, host_ips: Vec<IpAddr>, now: Timestamp) -> Worker {
        let api = pod.status.as_ref();
        let start_time = api.and_then(|s| s.start_time.as_ref()).map_or(now, |time| time.0);
        let pod_ips = api.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten();
        let pod_ips = pod_ips.filter_map(|ip| ip.ip.parse().ok()).collect();
        let mut worker = Worker {
            host_ips,
            slots: Vec::new(),
            sandbox: Sandbox::Absent,
            sandbox_failures: 0,
            mounting: false,
            mounted: false,
            pod_ips,
            ending: None,
            terminal: false,
            gone: false,
            refused: None,
            handed_back: false,
            start_time,
            reported: api.cloned().filter(|s| s.start_time.is_some()),
            now,
            woken_for: None,
            out: Vec::new(),
            pod,
        };
        worker.take_containers();
        worker.recall_ended();
        worker
    }

    /// Takes in what happened at `now` and says what is to be done.
    pub fn step(&mut self, now: Timestamp, event: Event) -> Vec<Action> {
        self.now = now;
        self.take(event);
        self.advance();
        self.ask();
        self.report();
        self.wake();
        std::mem::take(&mut self.out)
    }

    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Unhealthy answers in a row of a container's probe, and how many are needed for its verdict.
    pub fn probe_failures(&self, container: &str, probe: ProbeKind) -> Option<(u32, u32)> {
        self.slots.iter().find(|slot| slot.name() == container)?.probes.failures(probe)
    }

    /// Whether the pod comes from a file on the node.
    pub fn is_static(&self) -> bool {
        crate::is_static(&self.pod)
    }

    /// An app container was started in the pod's sandbox, so every init container has done its work there.
    pub(crate) fn is_initialized(&self) -> bool {
        self.slots.iter().any(|slot| slot.role == Role::App && slot.here)
    }

    pub fn addresses(&self) -> &[IpAddr] {
        &self.pod_ips
    }

    /// Whether the pod is being taken down, or is down.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    pub(crate) fn spec(&self) -> &PodSpec {
        // A pod without a spec never reaches a node: the API server's validation refuses it. The default has no containers.
        static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
        self.pod.spec.as_ref().unwrap_or(&EMPTY)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    fn tell(&mut self, severity: Severity, reason: &'static str, message: String, container: Option<&str>) {
        self.out.push(Action::Tell { severity, reason, message, container: container.map(str::to_string) });
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Spec(pod) => self.take_spec(pod),
            Event::Gone => self.gone = true,
            Event::SandboxReady { addresses } => self.take_sandbox(addresses),
            Event::SandboxFailed { message } => self.take_sandbox_failure(message),
            Event::VolumesReady => self.mounted = true,
            Event::ImageReady { container } => self.take_image(&container),
            Event::ImageFailed { container, reason, message, record } => {
                self.take_image_failure(&container, (reason, message), record);
            }
            Event::Started { container, attempt, at, image, image_id, stop_signal } => {
                self.take_started(&container, attempt, at, image, image_id, stop_signal);
            }
            Event::StartFailed { container, attempt, failure } => self.take_start_failure(&container, attempt, failure),
            Event::Hooked { container, attempt, hook, error } => self.take_hooked(&container, attempt, hook, error),
            Event::Exited { container, attempt, exit, message, record } => {
                self.take_exit(&container, attempt, exit, message, record);
            }
            Event::Probed { container, attempt, probe, outcome, output, record } => {
                self.take_probed(&container, attempt, probe, outcome, output, record);
            }
            Event::Removed => self.sandbox = Sandbox::Gone,
            Event::Evict { reason, message, grace_seconds, because } => {
                self.take_eviction((reason, message), grace_seconds, because);
            }
            Event::SourcesChanged => self.take_sources_changed(),
            Event::Clock => self.woken_for = None,
            Event::Adopted(found) => self.take_found(found),
            Event::Refused(refusal) => self.take_refusal(refusal),
        }
    }

    fn take_spec(&mut self, pod: Arc<Pod>) {
        let before = std::mem::replace(&mut self.pod, pod);
        if before.spec != self.pod.spec {
            self.take_containers();
        }
        self.shorten_grace();
    }

    fn advance(&mut self) {
        if self.sandbox == Sandbox::Gone {
            return;
        }
        if self.ending.is_none() {
            self.look_for_end();
        }
        if self.ending.is_some() {
            self.bring_down();
        } else {
            self.advance_stops();
            self.bring_up();
        }
    }

    /// Says the status when it differs from what was said last. To replace a container is one step, as upstream's
    /// `kubernetes/kubernetes pkg/kubelet/kuberuntime: SyncPod` is: what lies between the kill and the start is not told.
    fn report(&mut self) {
        if self.ending.is_none() && self.slots.iter().any(Slot::is_being_replaced) {
            return;
        }
        let status = status::compute(self);
        if self.reported.as_ref() != Some(&status) {
            self.reported = Some(status.clone());
            self.act(Action::Report(Box::new(status)));
        }
        match (self.sandbox == Sandbox::Gone, self.gone, self.is_deleted() && !self.handed_back) {
            (true, true, _) => self.act(Action::Done),
            (true, false, true) => {
                self.handed_back = true;
                self.act(Action::Delete);
            }
            _ => {}
        }
    }

    /// Asks to be woken when the next thing is due, once for each time.
    fn wake(&mut self) {
        let slots = self.slots.iter().filter_map(|slot| slot.due(self.ending.is_some(), self.terminal));
        let retry = match self.sandbox {
            Sandbox::Failed { retry_at } => Some(retry_at),
            _ => None,
        };
        let next = slots.chain(retry).chain(self.deadline()).filter(|at| *at > self.now).min();
        if let Some(at) = next.filter(|_| self.sandbox != Sandbox::Gone && next != self.woken_for) {
            self.woken_for = next;
            self.act(Action::WakeAt(at));
        }
    }

    /// When `activeDeadlineSeconds` runs out.
    fn deadline(&self) -> Option<Timestamp> {
        if self.ending.is_some() {
            return None;
        }
        self.spec().active_deadline_seconds.map(|seconds| after(self.start_time, seconds))
    }

    pub(crate) fn slot(&mut self, name: &str) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.name() == name)
    }

    /// The slot that runs this very attempt; events of earlier ones come too late to matter.
    fn slot_at(&mut self, name: &str, attempt: u32) -> Option<usize> {
        self.slots.iter().position(|slot| slot.name() == name && slot.attempt == Some(attempt))
    }

    /// `name_namespace(uid)`, as upstream prints a pod in messages.
    fn shown(&self) -> String {
        let meta = &self.pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
    }
}

/// `seconds` after `at`, or the end of time.
pub(crate) fn after(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
