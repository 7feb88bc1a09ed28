//! Finding a pod again after the node's process was restarted: nothing is started that runs, nothing is lost that ended.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ContainerStatus;

use super::slot::{Dead, Role, Run, Slot};
use super::stop::{Ending, Why};
use super::{Sandbox, Severity, Worker};
use crate::ports::{ContainerPhase, ContainerState};
use k8s_openapi::api::core::v1::Container;

/// What there is of a pod on the node.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The runtime has a sandbox of the pod, with or without addresses.
    pub sandbox: bool,
    /// The sandbox stands, with these addresses; `None` when there is none.
    pub addresses: Option<Vec<IpAddr>>,
    /// Containers of any attempt, with the termination message of those that have ended.
    pub containers: Vec<(ContainerState, Option<String>)>,
}

impl Worker {
    /// Takes over what the API server knows of containers that have ended here before, and of a pod that is over.
    pub(super) fn recall_ended(&mut self) {
        let pod = Arc::clone(&self.pod);
        let Some(status) = pod.status.as_ref() else { return };
        let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        for known in lists.into_iter().flat_map(|list| list.iter().flatten()) {
            let Some(slot) = self.slots.iter_mut().find(|slot| slot.name() == known.name) else { continue };
            slot.recall(known);
        }
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            self.ending = Some(Ending { why: Why::Completed, failed: None, grace_seconds: 0 });
            self.terminal = true;
        }
    }

    /// The node was restarted: whatever the pod had here is gone, and it begins again with its first init container.
    ///
    /// kubernetes/kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodActions, SyncPod).
    fn lose_sandbox(&mut self) {
        let any = self.slots.iter().any(|slot| slot.here);
        for slot in &mut self.slots {
            slot.here = false;
        }
        if any && self.ending.is_none() && !self.is_deleted() {
            let message = "Pod sandbox changed, it will be killed and re-created.".to_string();
            self.tell(Severity::Normal, "SandboxChanged", message, None);
        }
    }

    pub(super) fn take_found(&mut self, found: Found) {
        if !found.sandbox {
            self.lose_sandbox();
        }
        if let Some(addresses) = found.addresses {
            self.sandbox = Sandbox::Ready;
            self.pod_ips = addresses;
        }
        let mut containers = found.containers;
        containers.sort_by_key(|(state, _)| state.id.attempt);
        for (state, message) in containers {
            if !self.slots.iter().any(|slot| slot.name() == state.id.name) {
                // It belongs to the pod but no longer to its spec; with the sandbox it goes.
                let container = Container { name: state.id.name.clone(), ..Container::default() };
                self.slots.push(Slot::new(Arc::new(container), Role::Ephemeral));
            }
            let now = self.now;
            if let Some(slot) = self.slot(&state.id.name.clone()) {
                slot.find(state, message, now);
            }
        }
        // A pod that is terminal for the API server but still has something running here is brought down again.
        if self.slots.iter().any(Slot::is_alive) {
            self.terminal = false;
        }
    }
}

impl Slot {
    fn recall(&mut self, known: &ContainerStatus) {
        self.image_id = known.image_id.clone();
        self.image = known.image.clone();
        let current = known.state.as_ref().and_then(|state| state.terminated.as_ref());
        let last = known.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let attempt = known.restart_count.max(0) as u32;
        let dead = |ended: &k8s_openapi::api::core::v1::ContainerStateTerminated, attempt| Dead {
            attempt,
            exit_code: ended.exit_code,
            signal: ended.signal,
            reason: ended.reason.clone().unwrap_or_default(),
            message: ended.message.clone(),
            started: ended.started_at.as_ref().map(|time| time.0),
            finished: ended.finished_at.as_ref().map(|time| time.0),
            record: None,
        };
        let waiting = known.state.as_ref().is_some_and(|state| state.waiting.is_some());
        match (current, last) {
            (Some(current), last) => {
                self.attempt = Some(attempt);
                self.dead = Some(dead(current, attempt));
                self.dead_before = last.map(|last| dead(last, attempt.saturating_sub(1)));
            }
            (None, Some(last)) if waiting => {
                self.attempt = Some(attempt);
                self.dead = Some(dead(last, attempt));
            }
            (None, last) if known.state.as_ref().is_some_and(|state| state.running.is_some()) => {
                // Believed lost until the runtime shows it; `find` takes this back.
                self.attempt = Some(attempt);
                self.dead_before = last.map(|last| dead(last, attempt.saturating_sub(1)));
                self.dead = Some(Dead::lost(attempt));
            }
            (None, Some(last)) => self.dead = Some(dead(last, attempt.saturating_sub(1))),
            (None, None) => {}
        }
        // Taken back when it turns out that the sandbox is lost.
        self.here = self.attempt.is_some();
        self.started = known.started == Some(true);
        self.probes.adopt(self.started, known.ready);
    }

    fn find(&mut self, state: ContainerState, message: Option<String>, now: jiff::Timestamp) {
        let attempt = state.id.attempt;
        if self.attempt.is_some_and(|known| known > attempt) {
            return;
        }
        self.attempt = Some(attempt);
        self.here = true;
        if self.dead.as_ref().is_some_and(|dead| dead.attempt == attempt && dead.is_lost()) {
            self.dead = self.dead_before.take();
        }
        self.image = state.image;
        self.image_id = state.image_id;
        self.stop_signal = state.stop_signal;
        match (state.phase, state.exit) {
            (ContainerPhase::Running, _) => {
                let ready = self.probes.is_ready();
                let started_before = self.started;
                let since = state.started.unwrap_or(state.created);
                self.started_at = Some(since);
                self.run = Run::Running;
                self.started = self.probes.begin(since, now) || started_before;
                self.probes.adopt(self.started, ready);
            }
            (_, Some(exit)) => {
                self.run = Run::Idle;
                let known = self.dead.as_ref().is_some_and(|dead| dead.attempt == attempt);
                if !known {
                    self.dead_before = self.dead.take();
                    self.started_at = Some(exit.started);
                    self.dead = Some(Dead::new(attempt, exit, message, None));
                }
            }
            // Created and never started: the next attempt replaces it.
            (_, None) => self.run = Run::Idle,
        }
    }
}
