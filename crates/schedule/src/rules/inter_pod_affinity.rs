//! `InterPodAffinity`: pods that want, or do not want, to share a host, a zone or any other topology with other pods.

use std::collections::BTreeMap;

use super::{Fit, Happening, Rule, SCORE_MAX, Unfit};
use crate::affinity::{Labels, PodTerm};
use crate::cycle::Cycle;
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(super) const RULE: Rule = Rule {
    filter,
    score,
    hint: |pod, happening| match happening {
        Happening::NodeAdded(_) => true,
        Happening::NodeChanged { before, now } => before.labels != now.labels,
        // A pod that comes may be one to be near to; one that goes, one to be far from, or one that kept this away.
        Happening::PodPlaced(other) => pod.required_affinity.iter().any(|term| means(term, other, None)),
        Happening::PodGone(other) => {
            pod.required_anti_affinity.iter().any(|term| means(term, other, None))
                || !other.required_anti_affinity.is_empty()
                || pod.required_affinity.iter().any(|term| means(term, pod, None))
        }
        _ => false,
    },
    ..Rule::new("InterPodAffinity", 2)
};

/// kubernetes/kubernetes pkg/scheduler/apis/config/v1/defaults.go: HardPodAffinityWeight.
const HARD_AFFINITY_WEIGHT: i64 = 1;

fn means(term: &PodTerm, pod: &PodView, namespace_labels: Option<&Labels>) -> bool {
    term.matches(pod.namespace(), &pod.labels, namespace_labels)
}

type Counts = BTreeMap<(String, String), i64>;

/// How many pods stand in each topology (label and value), by what they mean to the pod.
pub(crate) struct AffinityCounts {
    /// Existing pods that do not want this pod near.
    repelling: Counts,
    /// Pods that match all required affinity terms.
    wanted: Counts,
    /// Pods that match a required anti-affinity term.
    unwanted: Counts,
}

impl AffinityCounts {
    pub fn of(cycle: &Cycle) -> Self {
        let mut counts = Self { repelling: Counts::new(), wanted: Counts::new(), unwanted: Counts::new() };
        let pod = cycle.pod;
        let namespaces = &cycle.snapshot.namespaces;
        let own_labels = namespaces.get(pod.namespace());
        for node in cycle.nodes() {
            let note = |counts: &mut Counts, key: &str| {
                if let Some(value) = node.labels.get(key) {
                    *counts.entry((key.to_string(), value.clone())).or_insert(0) += 1;
                }
            };
            for other in node.pods.values() {
                let other_labels = namespaces.get(other.namespace());
                for term in other.required_anti_affinity.iter().filter(|term| means(term, pod, own_labels)) {
                    note(&mut counts.repelling, &term.topology_key);
                }
                let all = !pod.required_affinity.is_empty()
                    && pod.required_affinity.iter().all(|term| means(term, other, other_labels));
                for term in pod.required_affinity.iter().filter(|_| all) {
                    note(&mut counts.wanted, &term.topology_key);
                }
                for term in pod.required_anti_affinity.iter().filter(|term| means(term, other, other_labels)) {
                    note(&mut counts.unwanted, &term.topology_key);
                }
            }
        }
        counts
    }
}

fn stands(counts: &Counts, node: &NodeView, key: &str) -> bool {
    node.labels.get(key).is_some_and(|value| counts.contains_key(&(key.to_string(), value.clone())))
}

fn filter(cycle: &Cycle, node: &NodeView) -> Fit {
    let (pod, counts) = (cycle.pod, cycle.affinity_counts());
    if !is_near_enough(cycle, counts, node) {
        return Err(Unfit::for_good("node(s) didn't match pod affinity rules"));
    }
    if pod.required_anti_affinity.iter().any(|term| stands(&counts.unwanted, node, &term.topology_key)) {
        return Err(Unfit::resolvable("node(s) didn't match pod anti-affinity rules"));
    }
    let repelled = counts.repelling.keys().any(|(key, value)| node.labels.get(key) == Some(value));
    if repelled {
        return Err(Unfit::resolvable("node(s) didn't satisfy existing pods anti-affinity rules"));
    }
    Ok(())
}

fn is_near_enough(cycle: &Cycle, counts: &AffinityCounts, node: &NodeView) -> bool {
    let terms = &cycle.pod.required_affinity;
    if terms.iter().any(|term| !node.labels.contains_key(&term.topology_key)) {
        return false;
    }
    if terms.iter().all(|term| stands(&counts.wanted, node, &term.topology_key)) {
        return true;
    }
    // The first of a group that wants to be together: nobody is there yet, and it matches its own terms.
    let own_labels = cycle.snapshot.namespaces.get(cycle.pod.namespace());
    counts.wanted.is_empty() && terms.iter().all(|term| means(term, cycle.pod, own_labels))
}

fn score(cycle: &Cycle, nodes: &[&NodeView]) -> Option<Vec<i64>> {
    let pod = cycle.pod;
    let namespaces = &cycle.snapshot.namespaces;
    let own_labels = namespaces.get(pod.namespace());
    let has_own = !pod.preferred_affinity.is_empty() || !pod.preferred_anti_affinity.is_empty();
    let mut sums = Counts::new();
    for node in cycle.nodes() {
        let mut note = |term: &PodTerm, weight: i64, matches: bool| {
            if let Some(value) = node.labels.get(&term.topology_key).filter(|_| matches) {
                *sums.entry((term.topology_key.clone(), value.clone())).or_insert(0) += weight;
            }
        };
        for other in node.pods.values().filter(|other| has_own || other.has_affinity()) {
            let other_labels = namespaces.get(other.namespace());
            pod.preferred_affinity.iter().for_each(|it| note(it, it.weight, means(it, other, other_labels)));
            pod.preferred_anti_affinity.iter().for_each(|it| note(it, -it.weight, means(it, other, other_labels)));
            let hard = other.required_affinity.iter();
            hard.for_each(|it| note(it, HARD_AFFINITY_WEIGHT, means(it, pod, own_labels)));
            other.preferred_affinity.iter().for_each(|it| note(it, it.weight, means(it, pod, own_labels)));
            other.preferred_anti_affinity.iter().for_each(|it| note(it, -it.weight, means(it, pod, own_labels)));
        }
    }
    if sums.is_empty() {
        return None;
    }
    let raw = |node: &&NodeView| -> i64 {
        let here = sums.iter().filter(|((key, value), _)| node.labels.get(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    };
    let raws: Vec<i64> = nodes.iter().map(raw).collect();
    let (lowest, highest) = (raws.iter().min().copied()?, raws.iter().max().copied()?);
    let range = (highest - lowest) as f64;
    let score_of = |raw: i64| if range > 0.0 { (SCORE_MAX as f64 * ((raw - lowest) as f64 / range)) as i64 } else { 0 };
    Some(raws.into_iter().map(score_of).collect())
}
