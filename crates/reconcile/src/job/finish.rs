//! The end of a Job, and its suspension.

use std::time::Duration;

use k8s_openapi::api::batch::v1::JobCondition;

use super::{Draft, Verdict};
use crate::meta;
use crate::plan::Event;
use crate::podstate;

impl Draft {
    fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.status.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == "True")
    }

    /// Whether the Job is to end now, and why.
    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        for kind in ["SuccessCriteriaMet", "FailureTarget"] {
            if let Some(had) = self.condition(kind) {
                let (reason, message) = (had.reason.clone(), had.message.clone());
                return Some(Verdict {
                    kind,
                    reason: reason.unwrap_or_default(),
                    message: message.unwrap_or_default(),
                });
            }
        }
        let fails = |reason: &str, message: &str| {
            Some(Verdict { kind: "FailureTarget", reason: reason.into(), message: message.into() })
        };
        if let Some(message) = self.fails_job() {
            return fails("PodFailurePolicy", &message);
        }
        if self.failed > self.spec.backoff_limit.unwrap_or(6) || self.restarts_exceed() {
            return fails("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if self.past_deadline() {
            return fails("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        if self.per_index() {
            let (failed, done) = (self.indexes.failed.len() as i32, self.indexes.succeeded.len() as i32);
            if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
                let text = "Job has exceeded the specified maximal number of failed indexes";
                return fails("MaxFailedIndexesExceeded", text);
            }
            if failed > 0 && failed + done >= self.completions() {
                return fails("FailedIndexes", "Job has failed indexes");
            }
        }
        let message = self.succeeds()?;
        Some(Verdict { kind: "SuccessCriteriaMet", reason: "SuccessPolicy".into(), message })
    }

    /// Containers restarted in place count like failed pods.
    fn restarts_exceed(&self) -> bool {
        let restart = self.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
        if restart != Some("OnFailure") {
            return false;
        }
        let alive = self.pods.iter().filter(|p| matches!(podstate::phase(p), "Running" | "Pending"));
        let statuses = alive
            .filter_map(|p| p.status.as_ref())
            .flat_map(|s| s.container_statuses.iter().flatten().chain(s.init_container_statuses.iter().flatten()));
        let restarts: i32 = statuses.map(|c| c.restart_count).sum();
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn past_deadline(&mut self) -> bool {
        let (Some(most), Some(start)) = (self.spec.active_deadline_seconds, self.status.start_time.as_ref()) else {
            return false;
        };
        if self.suspended() {
            return false;
        }
        let left = start.0.as_second().saturating_add(most).saturating_sub(self.now.as_second());
        if left > 0 {
            self.plan.requeue(Duration::from_secs(left as u64));
        }
        left <= 0
    }

    pub(super) fn note_suspension(&mut self) {
        let noted = self.condition("Suspended").is_some();
        match (self.suspended(), noted) {
            (true, false) => {
                self.set("Suspended", "True", "JobSuspended", "Job suspended");
                self.plan.events.push(Event::normal(self.job.as_ref(), "Suspended", "Job suspended"));
                self.status.start_time = None;
            }
            (false, true) => {
                self.set("Suspended", "False", "JobResumed", "Job resumed");
                self.plan.events.push(Event::normal(self.job.as_ref(), "Resumed", "Job resumed"));
                self.status.start_time = Some(meta::time(self.now));
            }
            _ => {}
        }
    }

    /// Records the verdict, and ends the Job when nothing is left to count or to wait for.
    pub(super) fn finish(&mut self, verdict: Option<Verdict>, settled: bool) {
        let Some(verdict) = verdict else { return };
        if self.condition(verdict.kind).is_none() {
            self.set(verdict.kind, "True", &verdict.reason, &verdict.message);
        }
        if !settled {
            return;
        }
        if verdict.kind == "FailureTarget" {
            self.set("Failed", "True", &verdict.reason, &verdict.message);
            let event = Event::warning(self.job.as_ref(), &verdict.reason, verdict.message.clone());
            self.plan.events.push(event);
            return;
        }
        self.set("Complete", "True", &verdict.reason, &verdict.message);
        self.status.completion_time = Some(meta::time(self.now));
        if self.spec.completions.is_some_and(|wanted| self.status.succeeded.unwrap_or(0) > wanted) {
            let text = "Too many succeeded pods running after completion count reached";
            self.plan.events.push(Event::warning(self.job.as_ref(), "TooManySucceededPods", text));
        }
        self.plan.events.push(Event::normal(self.job.as_ref(), "Completed", "Job completed"));
    }

    fn set(&mut self, kind: &str, state: &str, reason: &str, message: &str) {
        let now = meta::time(self.now);
        let conditions = self.status.conditions.get_or_insert_default();
        let fresh = JobCondition {
            type_: kind.into(),
            status: state.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_probe_time: Some(now.clone()),
            last_transition_time: Some(now),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(had) => *had = fresh,
            None => conditions.push(fresh),
        }
    }
}
