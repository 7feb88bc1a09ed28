//! Jobs whose pods have an index each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::{Draft, FINALIZER};
use crate::meta;
use crate::podstate;

pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

#[derive(Default)]
pub(super) struct Indexes {
    /// As stored in the status.
    pub succeeded_before: BTreeSet<i32>,
    pub succeeded: BTreeSet<i32>,
    pub failed: BTreeSet<i32>,
    /// The failed pod of an index that is to be tried again: kept until its successor is there, for it bears the count.
    pub retried: BTreeMap<i32, Arc<Pod>>,
}

impl Indexes {
    pub fn delayed(&self, pod: &Pod) -> bool {
        let kept = index_of(pod).and_then(|index| self.retried.get(&index));
        kept.is_some_and(|kept| kept.metadata.uid == pod.metadata.uid)
    }
}

pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    meta::annotation(&pod.metadata, INDEX)?.parse().ok().filter(|i| *i >= 0)
}

pub(super) fn number(pod: &Pod, annotation: &str) -> i32 {
    meta::annotation(&pod.metadata, annotation).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Reads `1-3,7`.
pub(super) fn parse(text: &str, below: i32) -> BTreeSet<i32> {
    let mut set = BTreeSet::new();
    for part in text.split(',').filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<i32>(), to.parse::<i32>()) {
            set.extend(from..=to.min(below - 1));
        }
    }
    set
}

/// Writes `1-3,7`.
pub(super) fn print(set: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in set {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == *index => *end = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let text = |(from, to): &(i32, i32)| match to - from {
        0 => from.to_string(),
        1 => format!("{from},{to}"),
        _ => format!("{from}-{to}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

impl Draft {
    pub(super) fn per_index(&self) -> bool {
        self.indexed() && self.spec.backoff_limit_per_index.is_some()
    }

    pub(super) fn index(&mut self) {
        let completions = self.completions();
        let stored = self.status.completed_indexes.clone().unwrap_or_default();
        self.indexes.succeeded_before = parse(&stored, completions);
        self.indexes.succeeded = self.indexes.succeeded_before.clone();
        let ended = |p: &&Arc<Pod>| podstate::phase(p) == "Succeeded" && meta::has_finalizer(&p.metadata, FINALIZER);
        let fresh = self.pods.iter().filter(ended).filter_map(|p| index_of(p)).filter(|i| *i < completions);
        self.indexes.succeeded.extend(fresh);
        let Some(limit) = self.spec.backoff_limit_per_index else { return };
        let stored = self.status.failed_indexes.clone().unwrap_or_default();
        let mut failed = parse(&stored, completions);
        let mut last: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in self.pods.iter().filter(|p| self.pod_failed(p) && meta::has_finalizer(&p.metadata, FINALIZER)) {
            let Some(index) = index_of(pod).filter(|i| *i < completions) else { continue };
            let counts = self.failure_counts(pod);
            if (counts && number(pod, FAILURES) + 1 > limit) || self.fails_index(pod) {
                failed.insert(index);
            }
            let rank = |p: &Pod| number(p, FAILURES) + number(p, IGNORED_FAILURES);
            if last.get(&index).is_none_or(|had| rank(had) <= rank(pod)) {
                last.insert(index, pod.clone());
            }
        }
        let running: BTreeSet<i32> = self.active.iter().filter_map(|p| index_of(p)).collect();
        last.retain(|i, _| !failed.contains(i) && !self.indexes.succeeded.contains(i) && !running.contains(i));
        failed.retain(|i| !self.indexes.succeeded.contains(i));
        self.indexes.failed = failed;
        self.indexes.retried = last;
    }

    pub(super) fn write_indexes(&mut self) {
        let succeeded = print(&self.indexes.succeeded);
        self.status.completed_indexes = (!succeeded.is_empty()).then_some(succeeded);
        let total = self.indexes.succeeded.len() as i32;
        self.status.succeeded = (total != 0).then_some(total);
        if self.per_index() {
            self.status.failed_indexes = Some(print(&self.indexes.failed));
        }
    }

    /// The lowest indexes that neither run nor are done.
    pub(super) fn missing_indexes(&self, count: usize) -> Vec<i32> {
        let running: BTreeSet<i32> = self.active.iter().filter_map(|p| index_of(p)).collect();
        let going: BTreeSet<i32> = if self.replaces_only_failed() {
            let gone = self.pods.iter().filter(|p| meta::deleting(&p.metadata) && !podstate::finished(p));
            gone.filter_map(|p| index_of(p)).collect()
        } else {
            BTreeSet::new()
        };
        (0..self.completions())
            .filter(|i| !running.contains(i) && !going.contains(i))
            .filter(|i| !self.indexes.succeeded.contains(i) && !self.indexes.failed.contains(i))
            .take(count)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_written_short_and_read_back() {
        for text in ["", "0", "0,1", "1-3,7", "0,2,4-6"] {
            assert_eq!(print(&parse(text, 100)), text);
        }
        assert_eq!(print(&parse("1-9", 4)), "1-3");
    }
}
