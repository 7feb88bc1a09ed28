//! Making and removing a Job's pods.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::indexes::{FAILURES, IGNORED_FAILURES, INDEX, index_of, number};
use super::{Draft, FINALIZER};
use crate::meta;
use crate::podstate;
use crate::template::{create_pod, delete_pod, pod_of};

const BURST: usize = 500;
const BACKOFF_FIRST: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

impl Draft {
    pub(super) fn delete(&mut self, pods: Vec<Arc<Pod>>) {
        let job = self.job.clone();
        self.plan.actions.extend(pods.iter().map(|pod| delete_pod(job.as_ref(), pod)));
    }

    /// Makes or removes pods; says how many it makes, removes, and how many of these were ready.
    pub(super) fn manage(&mut self, terminating: i32) -> (i32, i32, i32) {
        let active = self.active.len() as i32;
        let parallelism = self.spec.parallelism.unwrap_or(1);
        let wanted = match (self.suspended(), self.spec.completions) {
            (true, _) => 0,
            (false, None) if self.succeeded > 0 => active,
            (false, None) => parallelism,
            (false, Some(completions)) => (completions - self.succeeded).min(parallelism).max(0),
        };
        let excess = self.excess(active - wanted);
        if !excess.is_empty() {
            let ready = excess.iter().filter(|p| podstate::ready(p)).count() as i32;
            let removed = excess.len() as i32;
            self.delete(excess);
            return (0, removed, ready);
        }
        if self.suspended() {
            return (0, 0, 0);
        }
        let held = if self.replaces_only_failed() { terminating } else { 0 };
        let missing = usize::try_from(wanted - active - held).unwrap_or(0).min(BURST);
        if missing == 0 {
            return (0, 0, 0);
        }
        (self.create(missing), 0, 0)
    }

    /// The pods to remove: doubles of an index first, then the least useful.
    fn excess(&self, at_least: i32) -> Vec<Arc<Pod>> {
        let mut rest = self.active.clone();
        rest.sort_by_key(|p| (podstate::ready(p), std::cmp::Reverse(meta::created(&p.metadata))));
        let mut out = Vec::new();
        if self.indexed() {
            let mut kept = std::collections::BTreeSet::new();
            let (useful, useless) = rest.into_iter().rev().partition(|pod| {
                index_of(pod).is_some_and(|index| {
                    index < self.completions() && !self.indexes.failed.contains(&index) && kept.insert(index)
                })
            });
            (rest, out) = (useful, useless);
            rest.reverse();
        }
        let more = usize::try_from(at_least).unwrap_or(0).saturating_sub(out.len());
        out.extend(rest.into_iter().take(more));
        out.truncate(BURST);
        out
    }

    fn create(&mut self, missing: usize) -> i32 {
        if !self.per_index()
            && let Some(wait) = self.backoff()
        {
            self.plan.requeue(wait);
            return 0;
        }
        let job = self.job.clone();
        let mut template = self.spec.template.clone();
        let finalizers = template.metadata.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        let pod = pod_of(job.as_ref(), &template);
        if !self.indexed() {
            self.plan.actions.extend((0..missing).map(|_| create_pod(job.as_ref(), &pod)));
            return missing as i32;
        }
        let mut made = 0;
        let mut soonest: Option<Duration> = None;
        for index in self.missing_indexes(missing) {
            if let Some(wait) = self.index_backoff(index) {
                soonest = Some(soonest.map_or(wait, |had| had.min(wait)));
                continue;
            }
            let action = create_pod(job.as_ref(), &self.with_index(pod.clone(), index));
            self.plan.actions.push(action);
            made += 1;
        }
        if let Some(wait) = soonest {
            self.plan.requeue(wait);
        }
        made
    }

    fn with_index(&self, mut pod: Pod, index: i32) -> Pod {
        let name = format!("{}-{index}", meta::name(&self.job.metadata));
        pod.metadata.generate_name = Some(format!("{name}-"));
        pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
        let retried = self.indexes.retried.get(&index);
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(INDEX.into(), index.to_string());
        if self.per_index() {
            let (mut failures, mut ignored) = (0, 0);
            if let Some(last) = retried {
                let counts = self.failure_counts(last);
                failures = number(last, FAILURES) + i32::from(counts);
                ignored = number(last, IGNORED_FAILURES) + i32::from(!counts);
            }
            annotations.insert(FAILURES.into(), failures.to_string());
            if ignored > 0 {
                annotations.insert(IGNORED_FAILURES.into(), ignored.to_string());
            }
        }
        if let Some(spec) = &mut pod.spec {
            spec.hostname = Some(name);
            spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()).for_each(add_index);
        }
        pod
    }

    /// How long to wait after failures in a row.
    fn backoff(&self) -> Option<Duration> {
        let mut ends: Vec<(Timestamp, bool)> = self
            .pods
            .iter()
            .filter(|p| podstate::phase(p) == "Succeeded" || self.pod_failed(p))
            .map(|p| (ended_at(p), podstate::phase(p) == "Succeeded"))
            .collect();
        ends.sort();
        let failures = ends.iter().rev().take_while(|(_, succeeded)| !succeeded).count();
        remaining(failures, ends.last()?.0, self.now)
    }

    fn index_backoff(&self, index: i32) -> Option<Duration> {
        let last = self.indexes.retried.get(&index)?;
        let failures = number(last, FAILURES) + number(last, IGNORED_FAILURES) + 1;
        remaining(usize::try_from(failures).unwrap_or(1), ended_at(last), self.now)
    }
}

fn remaining(failures: usize, last: Timestamp, now: Timestamp) -> Option<Duration> {
    if failures == 0 {
        return None;
    }
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(16);
    let wait = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or(Duration::ZERO);
    wait.checked_sub(passed).filter(|left| !left.is_zero())
}

/// When a pod ended: by its containers, by its readiness, by its deletion, or not known better than by its making.
fn ended_at(pod: &Pod) -> Timestamp {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let ends = statuses.into_iter().flatten().filter_map(|c| {
        c.state.as_ref().and_then(|s| s.terminated.as_ref()).and_then(|t| t.finished_at.as_ref()).map(|t| t.0)
    });
    if let Some(last) = ends.max() {
        return last;
    }
    let unready = podstate::condition(pod, "Ready").filter(|c| c.status == "False");
    if let Some(since) = unready.and_then(|c| c.last_transition_time.as_ref()) {
        return since.0;
    }
    if let Some(deleted) = &pod.metadata.deletion_timestamp {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        return deleted.0.checked_sub(jiff::SignedDuration::from_secs(grace)).unwrap_or(deleted.0);
    }
    meta::created(&pod.metadata)
}

fn add_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
        return;
    }
    let from = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    env.push(EnvVar {
        name: "JOB_COMPLETION_INDEX".into(),
        value_from: Some(EnvVarSource { field_ref: Some(from), ..Default::default() }),
        ..Default::default()
    });
}
