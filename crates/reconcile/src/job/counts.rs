//! Counting each ended pod exactly once.
//!
//! A pod carries a finalizer until it is counted. First its uid is written to the status as uncounted; when that is
//! stored the finalizer goes; when the finalizer is gone the uid becomes part of the sum. A crash between any two
//! of these steps neither loses nor doubles a pod.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{Draft, FINALIZER, Verdict};
use crate::meta;
use crate::plan::Action;
use crate::podstate;

/// The most uids the status may hold at once.
const UNCOUNTED_MAX: usize = 500;

pub(super) fn without_finalizer(pod: &Arc<Pod>) -> Action {
    let kept: Vec<&String> = pod.metadata.finalizers.iter().flatten().filter(|f| *f != FINALIZER).collect();
    let revision = &pod.metadata.resource_version;
    Action::patch(pod.as_ref(), json!({"metadata": {"finalizers": kept, "resourceVersion": revision}}))
}

impl Draft {
    fn uncounted(
        &self,
        list: fn(&k8s_openapi::api::batch::v1::UncountedTerminatedPods) -> &Option<Vec<String>>,
    ) -> BTreeSet<String> {
        let uncounted = self.job.status.as_ref().and_then(|s| s.uncounted_terminated_pods.as_ref());
        uncounted.and_then(|u| list(u).clone()).unwrap_or_default().into_iter().collect()
    }

    /// Sums up what has ended: counted, uncounted and newly seen.
    pub(super) fn count(&mut self) {
        let (succeeded, failed) = (self.uncounted(|u| &u.succeeded), self.uncounted(|u| &u.failed));
        let fresh = |pod: &&Arc<Pod>, known: &BTreeSet<String>| {
            meta::has_finalizer(&pod.metadata, FINALIZER)
                && !known.contains(meta::uid(&pod.metadata))
                && self.valid_index(pod)
        };
        let new_succeeded =
            self.pods.iter().filter(|p| podstate::phase(p) == "Succeeded" && fresh(p, &succeeded)).count();
        let new_failed =
            self.pods.iter().filter(|p| self.pod_failed(p) && fresh(p, &failed) && self.failure_counts(p)).count();
        let had = self.job.status.as_ref();
        let before =
            |count: fn(&k8s_openapi::api::batch::v1::JobStatus) -> Option<i32>| had.and_then(count).unwrap_or(0);
        self.succeeded = before(|s| s.succeeded) + (new_succeeded + succeeded.len()) as i32;
        self.failed = before(|s| s.failed) + (new_failed + failed.len()) as i32;
        if self.indexed() {
            self.index();
            self.succeeded = self.indexes.succeeded.len() as i32;
        }
    }

    /// Moves each ended pod one step on; says how many are still uncounted.
    pub(super) fn track(&mut self, verdict: Option<&Verdict>) -> usize {
        let held: BTreeSet<String> = self
            .pods
            .iter()
            .filter(|p| meta::has_finalizer(&p.metadata, FINALIZER))
            .map(|p| meta::uid(&p.metadata).to_string())
            .collect();
        let (mut succeeded, mut failed) = (self.uncounted(|u| &u.succeeded), self.uncounted(|u| &u.failed));
        let (known_succeeded, known_failed) = (succeeded.clone(), failed.clone());
        let settle = |list: &mut BTreeSet<String>, sum: &mut Option<i32>| {
            let before = list.len();
            list.retain(|uid| held.contains(uid));
            let settled = (before - list.len()) as i32;
            if settled > 0 {
                *sum = Some(sum.unwrap_or(0) + settled);
            }
        };
        settle(&mut succeeded, &mut self.status.succeeded);
        settle(&mut failed, &mut self.status.failed);
        let mut pending = 0;
        let mut pods = self.pods.clone();
        pods.sort_by_key(|p| (super::indexes::index_of(p), p.metadata.name.clone()));
        for pod in pods.iter().filter(|p| meta::has_finalizer(&p.metadata, FINALIZER)) {
            if succeeded.len() + failed.len() >= UNCOUNTED_MAX || !self.may_release(pod, verdict) {
                continue;
            }
            let uid = meta::uid(&pod.metadata).to_string();
            let stored = match self.place(pod, verdict, &known_failed) {
                Place::Succeeded => {
                    succeeded.insert(uid.clone());
                    known_succeeded.contains(&uid)
                }
                Place::Failed => {
                    failed.insert(uid.clone());
                    known_failed.contains(&uid)
                }
                Place::Index(index) => self.indexes.succeeded_before.contains(&index),
                Place::Nowhere => true,
            };
            pending += 1;
            if stored {
                self.plan.actions.push(without_finalizer(pod));
            }
        }
        if self.indexed() {
            self.write_indexes();
        }
        let list = |set: BTreeSet<String>| (!set.is_empty()).then(|| set.into_iter().collect::<Vec<_>>());
        let uncounted = self.status.uncounted_terminated_pods.get_or_insert_default();
        (uncounted.succeeded, uncounted.failed) = (list(succeeded), list(failed));
        pending + uncounted.succeeded.as_ref().map_or(0, Vec::len) + uncounted.failed.as_ref().map_or(0, Vec::len)
    }

    /// Whether a pod's end is final for the Job.
    fn may_release(&self, pod: &Pod, verdict: Option<&Verdict>) -> bool {
        let ends = meta::deleting(&self.job.metadata) || verdict.is_some();
        if ends || podstate::phase(pod) == "Succeeded" {
            return true;
        }
        self.pod_failed(pod) && !self.indexes.delayed(pod)
    }

    fn place(&self, pod: &Pod, verdict: Option<&Verdict>, known_failed: &BTreeSet<String>) -> Place {
        let uid = meta::uid(&pod.metadata);
        if podstate::phase(pod) == "Succeeded" && !known_failed.contains(uid) {
            return match super::indexes::index_of(pod) {
                _ if !self.indexed() => Place::Succeeded,
                Some(index) if index < self.completions() => Place::Index(index),
                _ => Place::Nowhere,
            };
        }
        let failing = verdict.is_some_and(|v| v.kind == "FailureTarget");
        let counts = (self.pod_failed(pod) && self.failure_counts(pod)) || (failing && !self.pod_failed(pod));
        if counts && self.valid_index(pod) { Place::Failed } else { Place::Nowhere }
    }

    fn valid_index(&self, pod: &Pod) -> bool {
        !self.indexed() || super::indexes::index_of(pod).is_some_and(|index| index < self.completions())
    }
}

/// Where an ended pod is counted.
enum Place {
    Succeeded,
    Failed,
    Index(i32),
    Nowhere,
}
