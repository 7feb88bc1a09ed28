//! Bringing a pod up: sandbox and volumes at once, init containers in order, then the rest.

use std::net::IpAddr;

use jiff::Timestamp;
use journal::RecordId;

use super::slot::{Dead, Reason, Role, Run};
use super::{Action, Hook, Sandbox, Severity, StartFailure, Worker, after};
use crate::causes;
use crate::restart::{go_seconds, should_restart};

/// How long a failed configuration or creation waits for its next try (upstream's resync of a failed pod).
const RETRY_SECONDS: i64 = 10;
/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`.
const PULL_ERROR_SHOWN_SECONDS: i64 = 2;
const SANDBOX_RETRY_MAX_SECONDS: i64 = 30;

impl Worker {
    pub(super) fn bring_up(&mut self) {
        self.prepare();
        if self.start_init() {
            self.start_apps();
        }
        self.start_ephemeral();
    }

    fn prepare(&mut self) {
        let due = match self.sandbox {
            Sandbox::Absent => true,
            Sandbox::Failed { retry_at } => retry_at <= self.now,
            _ => false,
        };
        if due {
            self.sandbox = Sandbox::Creating;
            self.act(Action::CreateSandbox);
        }
        if !self.mounting {
            self.mounting = true;
            self.act(Action::Mount);
        }
    }

    pub(super) fn take_sandbox(&mut self, addresses: Vec<IpAddr>) {
        self.sandbox = Sandbox::Ready;
        self.sandbox_failures = 0;
        self.pod_ips = addresses;
    }

    pub(super) fn take_sandbox_failure(&mut self, message: String) {
        let wait = (1i64 << self.sandbox_failures.min(5)).min(SANDBOX_RETRY_MAX_SECONDS);
        self.sandbox_failures += 1;
        self.sandbox = Sandbox::Failed { retry_at: after(self.now, wait) };
        let message = format!("Failed to create pod sandbox: {message}");
        self.tell(Severity::Warning, "FailedCreatePodSandBox", message, None);
    }

    /// Init containers and sidecars in their order. True when all of them let the app containers run.
    ///
    /// kubernetes/kubernetes pkg/kubelet/kuberuntime/kuberuntime_container.go (computeInitContainerActions): the last one
    /// that was ever started decides; sidecars before it are only kept alive.
    fn start_init(&mut self) -> bool {
        let init: Vec<usize> = (0..self.slots.len())
            .filter(|index| matches!(self.slots[*index].role, Role::Init | Role::Sidecar))
            .collect();
        let Some(last) = init.last().copied() else { return true };
        if self.is_initialized() {
            for index in init {
                if self.slots[index].role == Role::Sidecar {
                    self.ensure(index);
                }
            }
            return true;
        }
        let mut front = init.iter().rev().find(|index| self.slots[**index].here).copied().unwrap_or(init[0]);
        for index in init.into_iter().filter(|index| *index < front) {
            if self.slots[index].role == Role::Sidecar {
                self.ensure(index);
            }
        }
        loop {
            if !self.is_passed(front) {
                self.ensure(front);
                return false;
            }
            if self.slots[front].role == Role::Sidecar {
                self.ensure(front);
            }
            if front == last {
                return true;
            }
            front += 1;
        }
    }

    /// Whether what follows this init container or sidecar may start.
    fn is_passed(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        match slot.role {
            Role::Sidecar => slot.run == Run::Running && slot.started,
            _ => slot.here && slot.run == Run::Idle && slot.dead.as_ref().is_some_and(|dead| dead.exit_code == 0),
        }
    }

    /// App containers start in order, each when the one before has come up or failed to.
    fn start_apps(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].role == Role::App {
                self.ensure(index);
            }
        }
    }

    fn start_ephemeral(&mut self) {
        for index in 0..self.slots.len() {
            if self.slots[index].role == Role::Ephemeral && self.slots[index].attempt.is_none() {
                self.ensure(index);
            }
        }
    }

    /// Whether a container that is not up is to be brought up.
    pub(crate) fn is_wanted(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        match &slot.dead {
            None => true,
            Some(_) if slot.role == Role::Ephemeral => false,
            Some(_) if slot.forced => true,
            // In a new sandbox everything is set up anew, unless the pod is not to be restarted at all.
            Some(dead) if slot.role == Role::Init && !slot.here => self.may_begin_again(dead.exit_code),
            Some(dead) => should_restart(&slot.container, self.spec(), dead.exit_code),
        }
    }

    /// Whether an init container of a pod that lost its sandbox runs once more: when an app container is to run after it, and
    /// it has not failed in a pod that never restarts.
    fn may_begin_again(&self, exit_code: i32) -> bool {
        let never = self.spec().restart_policy.as_deref() == Some("Never");
        let mut apps = (0..self.slots.len()).filter(|index| self.slots[*index].role == Role::App);
        (exit_code == 0 || !never) && apps.any(|index| self.is_wanted(index))
    }

    /// Takes the next step towards a running container, if one is due.
    fn ensure(&mut self, index: usize) {
        if self.slots[index].run == Run::Idle && self.is_wanted(index) && !self.is_held_back(index) {
            let slot = &mut self.slots[index];
            slot.run = Run::Pulling;
            slot.retry_at = None;
            let container = slot.name().to_string();
            self.act(Action::Pull { container });
        }
        let prepared = self.sandbox == Sandbox::Ready && self.mounted;
        if self.slots[index].run == Run::Ready && prepared && self.is_turn(index) {
            let slot = &mut self.slots[index];
            slot.run = Run::Starting;
            let (container, attempt) = (slot.name().to_string(), slot.next_attempt());
            self.act(Action::Start { container, attempt });
        }
    }

    /// Upstream starts a pod's containers one after the other, so a postStart hook holds back those that follow.
    fn is_turn(&self, index: usize) -> bool {
        let role = self.slots[index].role;
        let before = self.slots[..index].iter().filter(|slot| slot.role == role);
        role == Role::Ephemeral
            || !before.into_iter().any(|slot| {
                let first_pull = slot.run == Run::Pulling && slot.waiting.is_none();
                matches!(slot.run, Run::Ready | Run::Starting | Run::PostStart) || first_pull
            })
    }

    /// Waits that are not over: the crash back-off, a failed pull, a failed creation.
    fn is_held_back(&mut self, index: usize) -> bool {
        let now = self.now;
        let slot = &mut self.slots[index];
        if slot.pull_backs_off_at.is_some_and(|at| at <= now) {
            slot.pull_backs_off_at = None;
            self.back_off_pull(index);
        }
        let slot = &self.slots[index];
        if slot.retry_at.is_some_and(|at| at > now) {
            return true;
        }
        let Some(finished) = slot.dead.as_ref().and_then(|dead| dead.finished) else { return false };
        if slot.crash.until(finished, now).is_some() {
            self.back_off_crash(index);
            return true;
        }
        let slot = &mut self.slots[index];
        slot.crash.next(finished, now);
        false
    }

    fn back_off_crash(&mut self, index: usize) {
        let shown = self.shown();
        let slot = &self.slots[index];
        let (name, wait) = (slot.name().to_string(), slot.crash.current());
        let message = format!("back-off {} restarting failed container={name} pod={shown}", go_seconds(wait));
        let reason = Reason { reason: "CrashLoopBackOff".into(), message: Some(message) };
        if slot.waiting.as_ref() == Some(&reason) {
            return;
        }
        let because = causes::crash_back_off(slot.dead.iter().filter_map(|dead| dead.record).collect());
        self.slots[index].waiting = Some(reason);
        let message = format!("Back-off restarting failed container {name} in pod {shown}");
        self.tell(Severity::Warning, "BackOff", message, Some(&name));
        self.act(Action::BackedOff { container: name, wait, because });
    }

    /// kubernetes/kubernetes pkg/kubelet/images/image_manager.go: the error is kept in the back-off's message.
    fn back_off_pull(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let image = slot.container.image.clone().unwrap_or_default();
        let short = format!("Back-off pulling image {image:?}");
        let before = slot.waiting.take();
        let message = match before.map(|w| (w.reason, w.message.unwrap_or_default())) {
            Some((reason, text)) => format!("{short}: {reason}: {text}"),
            None => short.clone(),
        };
        slot.waiting = Some(Reason { reason: "ImagePullBackOff".into(), message: Some(message) });
        let name = slot.name().to_string();
        let wait = slot.pull.current();
        let because = causes::pull_back_off(slot.pull_record.into_iter().collect());
        self.act(Action::BackedOff { container: name.clone(), wait, because });
        self.tell(Severity::Normal, "BackOff", short, Some(&name));
        let reason = "ImagePullBackOff".to_string();
        self.tell(Severity::Warning, "Failed", format!("Error: {reason}"), Some(&name));
    }

    pub(super) fn take_image(&mut self, name: &str) {
        let Some(slot) = self.slot(name) else { return };
        if slot.run == Run::Pulling {
            slot.run = Run::Ready;
            slot.pull_backs_off_at = None;
        }
    }

    pub(super) fn take_image_failure(
        &mut self,
        name: &str,
        (reason, message): (String, String),
        record: Option<RecordId>,
    ) {
        let now = self.now;
        let Some(slot) = self.slot(name) else { return };
        if slot.run != Run::Pulling {
            return;
        }
        slot.run = Run::Idle;
        slot.pull_record = record;
        let pulled = reason == "ErrImagePull";
        if pulled {
            slot.pull.next(now, now);
            let wait = slot.pull.current().as_secs();
            slot.retry_at = Some(after(now, wait));
            slot.pull_backs_off_at = Some(after(now, PULL_ERROR_SHOWN_SECONDS));
        } else {
            slot.retry_at = Some(after(now, RETRY_SECONDS));
        }
        slot.waiting = Some(Reason { reason: reason.clone(), message: Some(message) });
        self.tell(Severity::Warning, "Failed", format!("Error: {reason}"), Some(name));
    }

    pub(super) fn take_started(
        &mut self,
        name: &str,
        attempt: u32,
        at: Timestamp,
        image: String,
        image_id: String,
        stop_signal: Option<String>,
    ) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name() == name && slot.run == Run::Starting) else {
            return;
        };
        slot.attempt = Some(attempt);
        slot.here = true;
        slot.image = image;
        slot.image_id = image_id;
        slot.started_at = Some(at);
        slot.stop_signal = stop_signal;
        let hook = slot.container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some());
        let removed = attempt.checked_sub(1);
        let name = name.to_string();
        self.tell(Severity::Normal, "Created", "Container created".into(), Some(&name));
        self.tell(Severity::Normal, "Started", "Container started".into(), Some(&name));
        if let Some(attempt) = removed {
            self.act(Action::Remove { container: name.clone(), attempt });
        }
        let Some(index) = self.slot_at(&name, attempt) else { return };
        if hook {
            self.slots[index].run = Run::PostStart;
            self.act(Action::Hook { container: name, attempt, hook: Hook::PostStart, deadline: None });
        } else {
            self.set_running(index);
        }
    }

    pub(super) fn set_running(&mut self, index: usize) {
        let now = self.now;
        let slot = &mut self.slots[index];
        slot.run = Run::Running;
        slot.forced = false;
        slot.waiting = None;
        let since = slot.started_at.unwrap_or(now);
        slot.started = slot.probes.begin(since, now);
    }

    pub(super) fn take_start_failure(&mut self, name: &str, attempt: u32, failure: StartFailure) {
        let now = self.now;
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name() == name && slot.run == Run::Starting) else {
            return;
        };
        slot.run = Run::Idle;
        slot.stop = None;
        let (reason, message) = match failure {
            StartFailure::Config(message) => ("CreateContainerConfigError", message),
            StartFailure::Create(message) => ("CreateContainerError", message),
            StartFailure::Run { message, exit_code } => {
                slot.attempt = Some(attempt);
                slot.here = true;
                slot.dead_before = slot.dead.take();
                slot.dead = Some(Dead {
                    attempt,
                    exit_code: exit_code.unwrap_or(128),
                    signal: None,
                    reason: "ContainerCannotRun".into(),
                    message: Some(message.clone()),
                    started: None,
                    finished: Some(now),
                    record: None,
                });
                ("RunContainerError", message)
            }
        };
        if reason != "RunContainerError" {
            slot.retry_at = Some(after(now, RETRY_SECONDS));
        }
        slot.waiting = Some(Reason { reason: reason.into(), message: Some(message.clone()) });
        if reason == "RunContainerError" {
            self.tell(Severity::Normal, "Created", "Container created".into(), Some(name));
            if let Some(attempt) = attempt.checked_sub(1) {
                self.act(Action::Remove { container: name.to_string(), attempt });
            }
        }
        self.tell(Severity::Warning, "Failed", format!("Error: {message}"), Some(name));
    }

    pub(super) fn take_hooked(&mut self, name: &str, attempt: u32, hook: Hook, error: Option<String>) {
        let Some(index) = self.slot_at(name, attempt) else { return };
        match (hook, error) {
            (Hook::PreStop, error) => {
                if error.is_some() {
                    self.tell(Severity::Warning, "FailedPreStopHook", "PreStopHook failed".into(), Some(name));
                }
                self.pre_stop_ended(index);
            }
            (Hook::PostStart, _) if self.slots[index].run != Run::PostStart => {}
            (Hook::PostStart, None) => self.set_running(index),
            (Hook::PostStart, Some(message)) => {
                self.tell(Severity::Warning, "FailedPostStartHook", "PostStartHook failed".into(), Some(name));
                let reason = Reason { reason: "PostStartHookError".into(), message: Some(message) };
                self.slots[index].waiting = Some(reason);
                self.stop_unhooked(index);
            }
        }
    }
}
