//! Taking containers down: the preStop hook, the stop signal, and after the grace period SIGKILL; sidecars last.

use jiff::Timestamp;
use journal::{Cause, RecordId};

use super::slot::{Role, Run};
use super::{Action, Hook, Sandbox, Severity, Worker, after};
use crate::admission::Refusal;
use crate::causes;
use crate::restart::restarts_after_probe;
use crate::signals::{SIGKILL, signal_number};

/// kubernetes/kubernetes pkg/kubelet/kuberuntime: a container is always given this long between the two signals.
const GRACE_MIN_SECONDS: i64 = 2;
/// A container that has not ended by then is killed again: the first signal, or the news of its end, may have been lost.
const KILL_AGAIN_SECONDS: i64 = 10;

/// Why the whole pod comes down.
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    pub why: Why,
    /// Reason and message of a `Failed` phase that the end itself brings about.
    pub failed: Option<(String, String)>,
    pub(super) grace_seconds: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Deleted through the API, or gone from it.
    Deleted,
    /// Every container that the pod waits for is done.
    Completed,
    DeadlineExceeded,
    Evicted(Cause),
    /// The node did not take it.
    Refused,
}

/// A container on its way down.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    pub(super) restart: bool,
    stage: Stage,
    deadline: Timestamp,
    because: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    PreStop,
    /// A sidecar waits for the containers that may need it.
    Turn,
    Asked {
        kill_at: Timestamp,
    },
    Killed {
        again_at: Timestamp,
    },
}

impl Stopping {
    pub(super) fn due(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::PreStop | Stage::Turn => Some(self.deadline),
            Stage::Asked { kill_at } => Some(kill_at),
            Stage::Killed { again_at } => Some(again_at),
        }
    }
}

/// A container-only stop: what is told, why, and whether it is started again.
struct Stop {
    message: String,
    because: Cause,
    restart: bool,
    grace_seconds: i64,
}

impl Worker {
    /// Decides whether the pod's life here is over.
    pub(super) fn look_for_end(&mut self) {
        let why = if self.is_deleted() {
            Why::Deleted
        } else if self.deadline().is_some_and(|at| at <= self.now) {
            Why::DeadlineExceeded
        } else if self.is_finished() {
            Why::Completed
        } else {
            return;
        };
        let failed = (why == Why::DeadlineExceeded).then(|| {
            let message = "Pod was active on the node longer than the specified deadline";
            ("DeadlineExceeded".to_string(), message.to_string())
        });
        if let Some((_, message)) = &failed {
            self.tell(Severity::Normal, "DeadlineExceeded", message.clone(), None);
        }
        self.ending = Some(Ending { why, failed, grace_seconds: self.grace() });
    }

    pub(super) fn take_eviction(&mut self, failed: (String, String), grace_seconds: i64, because: Cause) {
        if self.ending.is_none() {
            self.tell(Severity::Warning, "Evicted", failed.1.clone(), None);
            let grace_seconds = grace_seconds.min(self.grace());
            self.ending = Some(Ending { why: Why::Evicted(because), failed: Some(failed), grace_seconds });
        }
    }

    /// Nothing was made for the pod, so nothing has to be taken away.
    pub(super) fn take_refusal(&mut self, refusal: Refusal) {
        self.ending = Some(Ending { why: Why::Refused, failed: None, grace_seconds: 0 });
        self.terminal = true;
        self.sandbox = Sandbox::Gone;
        self.refused = Some(refusal);
    }

    /// The grace period that the API or the spec grants.
    fn grace(&self) -> i64 {
        let asked = self.pod.metadata.deletion_grace_period_seconds;
        asked.or(self.spec().termination_grace_period_seconds).unwrap_or(30).max(0)
    }

    /// kubernetes/kubernetes pkg/kubelet/kuberuntime (computePodActions): a pod is over when an init container failed for
    /// good, or no app container runs or will.
    fn is_finished(&self) -> bool {
        let over = |index: usize| {
            let slot = &self.slots[index];
            slot.run == Run::Idle && slot.dead.is_some() && !self.is_wanted(index)
        };
        let failed_init = (0..self.slots.len()).any(|index| {
            let slot = &self.slots[index];
            slot.role == Role::Init && over(index) && slot.dead.as_ref().is_some_and(|dead| dead.exit_code != 0)
        });
        let mut apps = (0..self.slots.len()).filter(|index| self.slots[*index].role == Role::App).peekable();
        failed_init || (apps.peek().is_some() && apps.all(over))
    }

    pub(super) fn bring_down(&mut self) {
        for index in 0..self.slots.len() {
            match self.slots[index].run {
                Run::Pulling | Run::Ready => self.slots[index].run = Run::Idle,
                Run::PostStart | Run::Running if self.slots[index].stop.is_none() => self.stop_with_pod(index),
                _ => {}
            }
        }
        self.advance_stops();
        let alive = self.slots.iter().any(|slot| slot.is_alive());
        if alive || matches!(self.sandbox, Sandbox::Creating) {
            return;
        }
        self.terminal = true;
        if self.sandbox != Sandbox::Removing {
            self.sandbox = Sandbox::Removing;
            let because = self.cause_of_end();
            self.act(Action::RemoveSandbox { because });
        }
    }

    fn cause_of_end(&self) -> Cause {
        let evidence: Vec<RecordId> = self.slots.iter().filter_map(|slot| slot.dead.as_ref()?.record).collect();
        match self.ending.as_ref().map(|ending| &ending.why) {
            Some(Why::Deleted) if self.gone && self.is_static() => causes::manifest_removed(),
            Some(Why::Deleted) | None => causes::deleted(),
            // A refused pod has neither containers nor a sandbox that could end.
            Some(Why::Completed | Why::Refused) => causes::completed(evidence),
            Some(Why::DeadlineExceeded) => causes::deadline_exceeded(),
            Some(Why::Evicted(because)) => because.clone(),
        }
    }

    fn stop_with_pod(&mut self, index: usize) {
        let message = format!("Stopping container {}", self.slots[index].name());
        let grace_seconds = self.ending.as_ref().map_or(0, |ending| ending.grace_seconds);
        let because = self.cause_of_end();
        self.begin_stop(index, Stop { message, because, restart: false, grace_seconds });
    }

    /// A liveness or startup probe has failed too often.
    pub(super) fn stop_unhealthy(&mut self, index: usize, probe: super::ProbeKind, evidence: Vec<RecordId>) {
        let slot = &self.slots[index];
        let what = match probe {
            super::ProbeKind::Startup => "startup",
            _ => "liveness",
        };
        let name = slot.name();
        let restart = slot.role == Role::Sidecar || restarts_after_probe(&slot.container, self.spec());
        let message = match (slot.role, restart) {
            (Role::Sidecar | Role::Init, _) => format!("Init container {name} failed {what} probe"),
            (_, true) => format!("Container {name} failed {what} probe, will be restarted"),
            (_, false) => format!("Container {name} failed {what} probe"),
        };
        let own = slot.probes.grace(probe);
        let grace_seconds = match self.pod.metadata.deletion_grace_period_seconds {
            Some(asked) => asked,
            None => own.unwrap_or_else(|| self.grace()),
        };
        let because = causes::probe_failed(probe, evidence);
        self.begin_stop(index, Stop { message, because, restart, grace_seconds });
    }

    pub(super) fn stop_changed(&mut self, index: usize) {
        if self.slots[index].stop.is_some() || self.slots[index].run == Run::Starting {
            return;
        }
        let slot = &self.slots[index];
        let (name, grace_seconds) = (slot.name(), self.grace());
        let message = match slot.role {
            Role::Sidecar | Role::Init => format!("Init container {name} definition changed"),
            _ => format!("Container {name} definition changed, will be restarted"),
        };
        self.begin_stop(index, Stop { message, because: causes::definition_changed(), restart: true, grace_seconds });
    }

    pub(super) fn stop_unhooked(&mut self, index: usize) {
        let grace_seconds = self.grace();
        let message = "FailedPostStartHook".to_string();
        let because = causes::post_start_failed();
        self.begin_stop(index, Stop { message, because, restart: false, grace_seconds });
    }

    fn begin_stop(&mut self, index: usize, stop: Stop) {
        let Stop { message, because, restart, grace_seconds } = stop;
        let slot = &mut self.slots[index];
        let deadline = after(self.now, grace_seconds);
        let (name, attempt) = (slot.name().to_string(), slot.attempt.unwrap_or(0));
        let hook = slot.container.lifecycle.as_ref().is_some_and(|l| l.pre_stop.is_some()) && grace_seconds > 0;
        let stage = if hook { Stage::PreStop } else { Stage::Turn };
        slot.stop = Some(Stopping { restart, stage, deadline, because });
        self.tell(Severity::Normal, "Killing", message, Some(&name));
        if hook {
            let deadline = Some(deadline);
            self.act(Action::Hook { container: name, attempt, hook: Hook::PreStop, deadline });
        }
    }

    pub(super) fn pre_stop_ended(&mut self, index: usize) {
        if let Some(stop) = self.slots[index].stop.as_mut().filter(|stop| stop.stage == Stage::PreStop) {
            stop.stage = Stage::Turn;
        }
    }

    /// Moves every container that is on its way down as far as it can go now.
    pub(super) fn advance_stops(&mut self) {
        for index in (0..self.slots.len()).rev() {
            self.advance_stop(index);
        }
    }

    fn advance_stop(&mut self, index: usize) {
        let now = self.now;
        let turn = self.is_turn_to_stop(index);
        let slot = &mut self.slots[index];
        let name = slot.name().to_string();
        let attempt = slot.attempt.unwrap_or(0);
        let own = slot.container.lifecycle.as_ref().and_then(|l| l.stop_signal.as_deref());
        let signal = signal_number(own.or(slot.stop_signal.as_deref()));
        let Some(stop) = slot.stop.as_mut() else { return };
        if stop.stage == Stage::PreStop && stop.deadline <= now {
            stop.stage = Stage::Turn;
        }
        if stop.stage == Stage::Turn && (turn || stop.deadline <= now) {
            let kill_at = stop.deadline.max(after(now, GRACE_MIN_SECONDS));
            stop.stage = Stage::Asked { kill_at };
            let because = stop.because.clone();
            self.act(Action::Signal { container: name, attempt, signal, because });
            return;
        }
        if let Stage::Asked { kill_at: due } | Stage::Killed { again_at: due } = stop.stage
            && due <= now
        {
            stop.stage = Stage::Killed { again_at: after(now, KILL_AGAIN_SECONDS) };
            let because = causes::grace_expired(&stop.because);
            self.act(Action::Signal { container: name, attempt, signal: SIGKILL, because });
        }
    }

    /// kubernetes/kubernetes pkg/kubelet/kuberuntime/kuberuntime_termination_order.go: a sidecar goes after every app
    /// container and after the sidecars that started later. It holds only when the whole pod comes down.
    fn is_turn_to_stop(&self, index: usize) -> bool {
        if self.ending.is_none() || self.slots[index].role != Role::Sidecar {
            return true;
        }
        !self.slots.iter().enumerate().any(|(other, slot)| {
            slot.is_alive() && (slot.role == Role::App || (slot.role == Role::Sidecar && other > index))
        })
    }

    /// A second deletion may grant less time than the first.
    pub(super) fn shorten_grace(&mut self) {
        let Some(asked) = self.pod.metadata.deletion_grace_period_seconds else { return };
        let Some(ending) = self.ending.as_mut() else { return };
        if asked >= ending.grace_seconds {
            return;
        }
        ending.grace_seconds = asked;
        let (soft, hard) = (after(self.now, asked), after(self.now, asked.max(GRACE_MIN_SECONDS)));
        for stop in self.slots.iter_mut().filter_map(|slot| slot.stop.as_mut()) {
            stop.deadline = stop.deadline.min(soft);
            if let Stage::Asked { kill_at } = &mut stop.stage {
                *kill_at = (*kill_at).min(hard);
            }
        }
    }
}
