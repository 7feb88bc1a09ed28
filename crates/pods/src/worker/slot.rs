//! One container of a pod, through all its attempts.

use std::sync::Arc;

use jiff::Timestamp;
use journal::RecordId;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer};

use super::probe::Probes;
use super::stop::Stopping;
use super::{Worker, after};
use crate::ports::Exit;
use crate::restart::{BackOff, is_sidecar};

/// What a container is for, which decides when it starts and whether the pod waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Sidecar,
    App,
    Ephemeral,
}

/// What is being done with a container right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Nothing; it waits for its turn, for a back-off, or is done.
    Idle,
    Pulling,
    /// The image is here; the sandbox, the volumes or an earlier container are not.
    Ready,
    Starting,
    /// It runs, its postStart hook has not ended: not yet shown as running.
    PostStart,
    Running,
}

/// Why a container waits: `CrashLoopBackOff` and its kin.
#[derive(Clone, Debug, PartialEq)]
pub struct Reason {
    pub reason: String,
    pub message: Option<String>,
}

/// How an attempt ended, as the status tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Dead {
    pub attempt: u32,
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub reason: String,
    pub message: Option<String>,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub record: Option<RecordId>,
}

/// kubernetes/kubernetes pkg/kubelet/container: the reason of a container that was running and cannot be found.
const LOST: &str = "ContainerStatusUnknown";
pub(crate) const LOST_MESSAGE: &str = "The container could not be located when the pod was terminated";

impl Dead {
    /// The end of a container that nobody saw ending.
    pub(crate) fn lost(attempt: u32) -> Dead {
        Dead {
            attempt,
            exit_code: 137,
            signal: None,
            reason: LOST.into(),
            message: Some(LOST_MESSAGE.into()),
            started: None,
            finished: None,
            record: None,
        }
    }

    /// Nobody saw it ending.
    pub fn is_lost(&self) -> bool {
        self.reason == LOST
    }

    pub(super) fn new(attempt: u32, exit: Exit, message: Option<String>, record: Option<RecordId>) -> Dead {
        let reason = match (exit.oom_killed, exit.code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        Dead {
            attempt,
            exit_code: exit.code,
            // The CRI's status has no signal, so upstream's never shows one: the exit code says 128 + signal.
            signal: None,
            reason: reason.into(),
            message: message.filter(|text| !text.is_empty()),
            started: Some(exit.started),
            finished: Some(exit.finished),
            record,
        }
    }
}

/// A container of the pod and what became of it.
pub struct Slot {
    pub container: Arc<Container>,
    pub role: Role,
    pub run: Run,
    /// The current attempt, or the last one; `None` before the first.
    pub attempt: Option<u32>,
    /// The last attempt was made in the sandbox that the pod has now.
    pub here: bool,
    /// What the runtime says of the image; empty before the first start.
    pub image: String,
    pub image_id: String,
    pub started_at: Option<Timestamp>,
    /// The startup probe has succeeded, or there is none.
    pub started: bool,
    pub dead: Option<Dead>,
    pub dead_before: Option<Dead>,
    pub waiting: Option<Reason>,
    pub(super) crash: BackOff,
    pub(super) pull: BackOff,
    /// The last failed pull.
    pub(super) pull_record: Option<RecordId>,
    /// After a failure that is no crash: when to try again.
    pub(super) retry_at: Option<Timestamp>,
    /// When an `ErrImagePull` turns into `ImagePullBackOff`.
    pub(super) pull_backs_off_at: Option<Timestamp>,
    /// Started again whatever its exit code: a probe killed it, or its definition changed.
    pub(super) forced: bool,
    pub(super) stop: Option<Stopping>,
    /// The image's or the spec's stop signal.
    pub(super) stop_signal: Option<String>,
    /// A SIGTERM has been decided before the start was done.
    pub(super) probes: Probes,
}

impl Slot {
    pub(super) fn new(container: Arc<Container>, role: Role) -> Slot {
        Slot {
            role,
            run: Run::Idle,
            attempt: None,
            here: false,
            image: String::new(),
            image_id: String::new(),
            started_at: None,
            started: false,
            dead: None,
            dead_before: None,
            waiting: None,
            crash: BackOff::default(),
            pull: BackOff::default(),
            pull_record: None,
            retry_at: None,
            pull_backs_off_at: None,
            forced: false,
            stop: None,
            stop_signal: None,
            probes: Probes::of(&container),
            container,
        }
    }

    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// Whether a process of this container may exist.
    pub fn is_alive(&self) -> bool {
        matches!(self.run, Run::Starting | Run::PostStart | Run::Running)
    }

    pub fn is_running(&self) -> bool {
        self.run == Run::Running
    }

    /// Its last attempt was ended so that another takes its place, which is on its way up and has met no obstacle.
    pub(super) fn is_being_replaced(&self) -> bool {
        let rising = matches!(self.run, Run::Pulling | Run::Ready | Run::Starting | Run::PostStart);
        self.forced && rising && self.waiting.is_none()
    }

    /// It runs and everything that asks for readiness agrees.
    pub fn is_ready(&self) -> bool {
        self.is_running() && self.started && self.probes.is_ready()
    }

    /// Probes that could not be asked, with why.
    pub fn obstacles(&self) -> impl Iterator<Item = (super::ProbeKind, &str)> {
        self.probes.obstacles()
    }

    /// The number of the attempt that comes next.
    pub(super) fn next_attempt(&self) -> u32 {
        self.attempt.map_or(0, |attempt| attempt + 1)
    }

    /// The first time at which something is due without anything else happening.
    pub(super) fn due(&self, ending: bool, terminal: bool) -> Option<Timestamp> {
        if terminal {
            return None;
        }
        let waits = [self.retry_at, self.pull_backs_off_at, self.crash_ends()];
        let waits = waits.into_iter().flatten().filter(|_| !ending && self.run == Run::Idle);
        let stop = self.stop.as_ref().and_then(Stopping::due);
        let probes = self.probes.due(self.started, ending).filter(|_| self.run == Run::Running && self.stop.is_none());
        waits.chain(stop).chain(probes).min()
    }

    fn crash_ends(&self) -> Option<Timestamp> {
        let finished = self.dead.as_ref()?.finished?;
        self.crash.until(finished, finished)
    }
}

impl Worker {
    /// Brings the slots in line with the spec: new ephemeral containers, changed images and resources.
    pub(super) fn take_containers(&mut self) {
        let spec = self.spec().clone();
        let init = spec.init_containers.into_iter().flatten().map(|c| {
            let role = if is_sidecar(&c) { Role::Sidecar } else { Role::Init };
            (c, role)
        });
        let apps = spec.containers.into_iter().map(|c| (c, Role::App));
        let ephemeral = spec.ephemeral_containers.into_iter().flatten().map(|c| (plain(c), Role::Ephemeral));
        for (container, role) in init.chain(apps).chain(ephemeral) {
            match self.slots.iter().position(|slot| slot.name() == container.name) {
                None => self.slots.push(Slot::new(Arc::new(container), role)),
                Some(index) => self.redefine(index, container),
            }
        }
    }

    fn redefine(&mut self, index: usize, container: Container) {
        let slot = &mut self.slots[index];
        if *slot.container == container {
            return;
        }
        let before = std::mem::replace(&mut slot.container, Arc::new(container));
        if before.image != slot.container.image {
            slot.retry_at = None;
            slot.pull = BackOff::default();
            if slot.is_alive() && slot.role != Role::Ephemeral {
                self.stop_changed(index);
            }
        } else if before.resources != slot.container.resources && slot.run == Run::Running {
            let (container, attempt) = (slot.name().to_string(), slot.attempt.unwrap_or(0));
            self.act(super::Action::Resize { container, attempt });
        }
    }

    /// A container ended.
    pub(super) fn take_exit(
        &mut self,
        name: &str,
        attempt: u32,
        exit: Exit,
        message: Option<String>,
        record: Option<RecordId>,
    ) {
        let Some(index) = self.slot_at(name, attempt) else { return };
        let slot = &mut self.slots[index];
        if slot.dead.as_ref().is_some_and(|dead| dead.attempt == attempt) {
            return;
        }
        slot.started_at = slot.started_at.or(Some(exit.started));
        slot.dead_before = slot.dead.take();
        slot.dead = Some(Dead::new(attempt, exit, message, record));
        slot.forced = slot.stop.take().is_some_and(|stop| stop.restart);
        slot.run = Run::Idle;
        slot.started = false;
        slot.probes.rest();
    }

    pub(super) fn take_sources_changed(&mut self) {
        let now = self.now;
        for slot in &mut self.slots {
            let waits_for_source = slot.waiting.as_ref().is_some_and(|w| w.reason == "CreateContainerConfigError");
            if waits_for_source && slot.run == Run::Idle {
                slot.retry_at = slot.retry_at.map(|at| at.min(after(now, 0)));
            }
        }
    }
}

/// An ephemeral container with the fields that it shares with the others.
fn plain(own: EphemeralContainer) -> Container {
    Container {
        name: own.name,
        image: own.image,
        image_pull_policy: own.image_pull_policy,
        command: own.command,
        args: own.args,
        working_dir: own.working_dir,
        env: own.env,
        env_from: own.env_from,
        volume_mounts: own.volume_mounts,
        volume_devices: own.volume_devices,
        security_context: own.security_context,
        resources: own.resources,
        stdin: own.stdin,
        stdin_once: own.stdin_once,
        tty: own.tty,
        termination_message_path: own.termination_message_path,
        termination_message_policy: own.termination_message_policy,
        ..Container::default()
    }
}
