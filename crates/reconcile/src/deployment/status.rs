//! What a Deployment reports: counts, and the conditions `Available`, `Progressing` and `ReplicaFailure`.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSetCondition};

use super::draft::Draft;
use crate::meta;
use crate::plan::Action;

impl Draft {
    pub fn has_deadline(&self) -> bool {
        self.deadline().is_some()
    }

    fn deadline(&self) -> Option<i32> {
        self.read.spec.progress_deadline_seconds.filter(|s| *s != i32::MAX)
    }

    pub fn condition(&self, kind: &str) -> Option<&DeploymentCondition> {
        self.deployment.status.as_ref().and_then(|s| find(s, kind))
    }

    /// Sets a condition, unless it already has this status and reason.
    pub fn set_condition(&mut self, kind: &str, state: &str, reason: &str, message: &str) {
        let now = meta::time(self.now);
        let condition = DeploymentCondition {
            type_: Some(kind.into()),
            status: Some(state.into()),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(now),
        };
        set(self.status(), condition);
    }

    /// Being paused suspends the deadline.
    pub fn note_pause(&mut self) {
        let reason = self.condition("Progressing").and_then(|c| c.reason.clone());
        if !self.has_deadline() || reason.as_deref() == Some("ProgressDeadlineExceeded") {
            return;
        }
        let noted = reason.as_deref() == Some("DeploymentPaused");
        match (self.paused(), noted) {
            (true, false) => self.set_condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused"),
            (false, true) => self.set_condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed"),
            _ => {}
        }
    }

    pub fn complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.wanted();
        status.updated_replicas.unwrap_or(0) == wanted
            && status.replicas.unwrap_or(0) == wanted
            && status.available_replicas.unwrap_or(0) == wanted
            && status.observed_generation.unwrap_or(0) >= meta::generation(&self.read.metadata)
    }

    pub fn write_status(&mut self, rollout: bool) {
        let mut status = self.count();
        if rollout {
            self.report_progress(&mut status);
            self.report_failures(&mut status);
        }
        if Some(&status) != self.read.status.as_ref() {
            let deployment = Deployment { status: Some(status), ..self.read.as_ref().clone() };
            self.plan.status = Some(Action::update_status(&deployment));
        } else if rollout {
            self.wait_for_progress(&status);
        }
    }

    fn count(&self) -> DeploymentStatus {
        let had = self.deployment.status.clone().unwrap_or_default();
        let sum = |count: &dyn Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
            self.sets.iter().filter_map(|s| s.read.status.as_ref()).map(count).sum()
        };
        let available = sum(&|s| s.available_replicas.unwrap_or(0));
        let updated = self.new.map_or(0, |at| self.sets[at].actual());
        let mut status = DeploymentStatus {
            observed_generation: Some(meta::generation(&self.read.metadata)),
            replicas: some(sum(&|s| s.replicas)),
            updated_replicas: some(updated),
            ready_replicas: some(sum(&|s| s.ready_replicas.unwrap_or(0))),
            available_replicas: some(available),
            unavailable_replicas: some((self.total() - available).max(0)),
            terminating_replicas: Some(sum(&|s| s.terminating_replicas.unwrap_or(0))),
            collision_count: had.collision_count,
            conditions: had.conditions,
        };
        let now = meta::time(self.now);
        let (state, reason, message) = if available >= self.wanted() - self.max_unavailable() {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        set(&mut status, condition("Available", state, reason, message.into(), &now));
        status
    }

    fn report_progress(&self, status: &mut DeploymentStatus) {
        if !self.has_deadline() {
            remove(status, "Progressing");
            return;
        }
        let current = self.condition("Progressing").cloned();
        let all_new = status.replicas == status.updated_replicas;
        if all_new && current.as_ref().is_some_and(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable")) {
            return;
        }
        let subject = match self.new {
            Some(at) => format!("ReplicaSet {:?}", self.sets[at].name()),
            None => format!("Deployment {:?}", meta::name(&self.read.metadata)),
        };
        let now = meta::time(self.now);
        if self.complete(status) {
            let text = format!("{subject} has successfully progressed.");
            set(status, condition("Progressing", "True", "NewReplicaSetAvailable", text, &now));
        } else if self.progressing(status) {
            let text = format!("{subject} is progressing.");
            let mut fresh = condition("Progressing", "True", "ReplicaSetUpdated", text, &now);
            if let Some(current) = &current {
                if current.status.as_deref() == Some("True") {
                    fresh.last_transition_time = current.last_transition_time.clone();
                }
                // With the same reason it would be left alone, but each progress moves lastUpdateTime.
                remove(status, "Progressing");
            }
            set(status, fresh);
        } else if self.timed_out(status) {
            let text = format!("{subject} has timed out progressing.");
            set(status, condition("Progressing", "False", "ProgressDeadlineExceeded", text, &now));
        }
    }

    fn progressing(&self, status: &DeploymentStatus) -> bool {
        let had = self.read.status.clone().unwrap_or_default();
        let updated = |s: &DeploymentStatus| s.updated_replicas.unwrap_or(0);
        let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - updated(s);
        updated(status) > updated(&had)
            || old(status) < old(&had)
            || status.ready_replicas > had.ready_replicas
            || status.available_replicas > had.available_replicas
    }

    fn timed_out(&self, status: &DeploymentStatus) -> bool {
        let (Some(current), Some(deadline)) = (find(status, "Progressing"), self.deadline()) else { return false };
        match current.reason.as_deref() {
            Some("NewReplicaSetAvailable") => false,
            Some("ProgressDeadlineExceeded") => true,
            _ => current
                .last_update_time
                .as_ref()
                .is_some_and(|since| self.now.as_second() > since.0.as_second() + i64::from(deadline)),
        }
    }

    fn report_failures(&self, status: &mut DeploymentStatus) {
        let new = self.new.map(|at| &self.sets[at]);
        let all = new.into_iter().chain(&self.sets);
        let conditions = all.filter_map(|s| s.read.status.as_ref()).flat_map(|s| s.conditions.iter().flatten());
        let failure = conditions.into_iter().find(|c| c.type_.as_deref() == Some("ReplicaFailure"));
        match failure {
            Some(failure) => set(status, carried(failure)),
            None => remove(status, "ReplicaFailure"),
        }
    }

    /// Comes back when the deadline passes.
    fn wait_for_progress(&mut self, status: &DeploymentStatus) {
        let (Some(current), Some(deadline)) = (find(status, "Progressing"), self.deadline()) else { return };
        if self.complete(status) || current.reason.as_deref() == Some("ProgressDeadlineExceeded") {
            return;
        }
        let since = current.last_update_time.as_ref().map_or(0, |t| t.0.as_second());
        let left = since + i64::from(deadline) - self.now.as_second();
        self.plan.requeue(Duration::from_secs(u64::try_from(left).unwrap_or(0) + 1));
    }
}

fn carried(failure: &ReplicaSetCondition) -> DeploymentCondition {
    DeploymentCondition {
        type_: failure.type_.clone(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time.clone(),
    }
}

fn condition(
    kind: &str,
    state: &str,
    reason: &str,
    message: String,
    now: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.into()),
        status: Some(state.into()),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|c| c.type_.as_deref() == Some(kind))
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(kind));
    }
}

fn set(status: &mut DeploymentStatus, mut fresh: DeploymentCondition) {
    let kind = fresh.type_.clone().unwrap_or_default();
    if let Some(had) = find(status, &kind) {
        if had.status == fresh.status && had.reason == fresh.reason {
            return;
        }
        if had.status == fresh.status {
            fresh.last_transition_time = had.last_transition_time.clone();
        }
    }
    remove(status, &kind);
    status.conditions.get_or_insert_default().push(fresh);
}

/// A zero count is absent on the wire.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
