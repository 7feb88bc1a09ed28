//! `Job`: pods until enough of them have succeeded, or too many have failed.
//!
//! kubernetes/kubernetes pkg/controller/job: decides everything here. `counts.rs` counts each ended pod exactly once,
//! by a finalizer on the pod and a list of uids in the status; `pods.rs` makes and removes pods; `indexes.rs` and
//! `policy.rs` say what an index and a failure mean; `finish.rs` ends the Job.

mod counts;
mod finish;
mod indexes;
mod pods;
mod policy;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::cache::{Cache, Change, Key, Of};
use crate::claim::claim_held;
use crate::controller::{Controller, Cx, controlling, own};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::podstate;
use crate::selector;

pub(crate) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const MANAGER: &str = "kubernetes.io/job-controller";

pub static JOB: Controller = Controller {
    name: "job-controller",
    account: "job-controller",
    watches: &[(Of::Job, own), (Of::Pod, of_pod)],
    workers: 5,
    sync: |cx, key| match gather(cx, key) {
        View::Job { job, pods } => plan(job, pods, cx.now),
        View::Orphans(pods) => release(&pods),
    },
};

enum View {
    Job {
        job: Arc<Job>,
        pods: Vec<Arc<Pod>>,
    },
    /// Pods whose Job is gone.
    Orphans(Vec<Arc<Pod>>),
}

fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    controlling::<Job>(cache, change, keys);
    let Some(pod) = change.after::<Pod>() else { return };
    let namespace = meta::namespace(&pod.metadata);
    match meta::controller_of(&pod.metadata) {
        None => {
            let jobs = cache.jobs.within(namespace);
            keys.extend(jobs.iter().filter(|j| selects(j, pod)).map(|j| Key::of(&j.metadata)));
        }
        // The Job may be gone already, and its pod still held by the finalizer.
        Some(owner) if meta::refers_to::<Job>(owner) && meta::has_finalizer(&pod.metadata, FINALIZER) => {
            keys.push(Key::new(namespace, &owner.name));
        }
        Some(_) => {}
    }
}

fn selects(job: &Job, pod: &Pod) -> bool {
    selector::matches(job.spec.as_ref().and_then(|s| s.selector.as_ref()), &pod.metadata.labels)
}

fn gather(cx: &Cx<'_>, key: &Key) -> View {
    let all = cx.cache.pods.within(&key.namespace);
    let Some(job) = cx.cache.jobs.at(key) else {
        let orphan = |p: &Arc<Pod>| {
            meta::has_finalizer(&p.metadata, FINALIZER)
                && meta::controller_of(&p.metadata).is_some_and(|o| meta::refers_to::<Job>(o) && o.name == key.name)
        };
        return View::Orphans(all.into_iter().filter(orphan).collect());
    };
    let near =
        |p: &Arc<Pod>| meta::controller_of(&p.metadata).is_none_or(|owner| owner.uid == meta::uid(&job.metadata));
    View::Job { pods: all.into_iter().filter(near).collect(), job }
}

/// Lets pods go whose Job does not count them any more.
fn release(pods: &[Arc<Pod>]) -> Plan {
    Plan { actions: pods.iter().map(counts::without_finalizer).collect(), ..Plan::default() }
}

/// Why the Job ends.
#[derive(Clone)]
struct Verdict {
    /// `FailureTarget`, `SuccessCriteriaMet` or `Complete`.
    kind: &'static str,
    reason: String,
    message: String,
}

struct Draft {
    job: Arc<Job>,
    spec: JobSpec,
    status: JobStatus,
    pods: Vec<Arc<Pod>>,
    active: Vec<Arc<Pod>>,
    succeeded: i32,
    failed: i32,
    indexes: indexes::Indexes,
    now: Timestamp,
    plan: Plan,
}

fn finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ends = |kind: &str| kind == "Complete" || kind == "Failed";
    conditions.into_iter().flatten().any(|c| ends(&c.type_) && c.status == "True")
}

fn plan(job: Arc<Job>, pods: Vec<Arc<Pod>>, now: Timestamp) -> Plan {
    let Some(spec) = job.spec.clone() else { return Plan::default() };
    if spec.managed_by.as_deref().is_some_and(|m| m != MANAGER) {
        return Plan::default();
    }
    if finished(&job) {
        let held = |p: &&Arc<Pod>| {
            meta::has_finalizer(&p.metadata, FINALIZER)
                && meta::controlled_by(&p.metadata, meta::uid(&job.metadata))
                && (podstate::finished(p) || meta::deleting(&p.metadata))
        };
        return release(&pods.iter().filter(held).cloned().collect::<Vec<_>>());
    }
    let mut plan = Plan::default();
    let pods = claim_held(job.as_ref(), pods, |pod| selects(&job, pod), Some(FINALIZER), &mut plan.actions);
    let mut status = job.status.clone().unwrap_or_default();
    status.uncounted_terminated_pods.get_or_insert_default();
    let active: Vec<Arc<Pod>> = pods.iter().filter(|p| podstate::active(p)).cloned().collect();
    let mut draft = Draft {
        job,
        spec,
        status,
        pods,
        active,
        succeeded: 0,
        failed: 0,
        indexes: indexes::Indexes::default(),
        now,
        plan,
    };
    draft.decide();
    draft.plan
}

impl Draft {
    fn suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    fn indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(0)
    }

    fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    /// Whether a pod counts as failed; by the default policy one that is being deleted does.
    fn pod_failed(&self, pod: &Pod) -> bool {
        match podstate::phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => !self.replaces_only_failed() && meta::deleting(&pod.metadata),
        }
    }

    fn decide(&mut self) {
        self.count();
        if self.status.start_time.is_none() && !self.suspended() {
            self.status.start_time = Some(meta::time(self.now));
        }
        let mut verdict = self.verdict();
        let mut active = self.active.len() as i32;
        let gone = |p: &&Arc<Pod>| meta::deleting(&p.metadata) && !podstate::finished(p);
        let mut terminating = self.pods.iter().filter(gone).count() as i32;
        let mut ready = self.active.iter().filter(|p| podstate::ready(p)).count() as i32;
        if verdict.is_some() {
            self.delete(self.active.clone());
            terminating += active;
            (active, ready) = (0, 0);
        } else {
            if !meta::deleting(&self.job.metadata) {
                let (made, removed, removed_ready) = self.manage(terminating);
                active += made - removed;
                terminating += removed;
                ready -= removed_ready;
            }
            let enough = match self.spec.completions {
                None => self.succeeded > 0,
                Some(wanted) => self.succeeded >= wanted,
            };
            if enough && active == 0 {
                verdict = Some(Verdict {
                    kind: "SuccessCriteriaMet",
                    reason: "CompletionsReached".into(),
                    message: "Reached expected number of succeeded pods".into(),
                });
            } else if !meta::deleting(&self.job.metadata) {
                self.note_suspension();
            }
        }
        self.status.active = (active != 0).then_some(active);
        self.status.ready = Some(ready);
        self.status.terminating = Some(terminating);
        let uncounted = self.track(verdict.as_ref());
        self.finish(verdict, uncounted == 0 && terminating == 0);
        if self.job.status.as_ref() != Some(&self.status) {
            let job = Job { status: Some(self.status.clone()), ..self.job.as_ref().clone() };
            self.plan.status = Some(Action::update_status(&job));
        }
    }
}
