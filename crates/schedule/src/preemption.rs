//! `DefaultPreemption`: which pods of lower priority would have to go so that the pod fits
//! (kubernetes/kubernetes pkg/scheduler/framework/preemption/preemption.go and plugins/defaultpreemption).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::affinity::selector;
use crate::cycle::{Cycle, Diagnosis, message};
use crate::node_view::NodeView;
use crate::pod_view::PodView;
use crate::rules::Unfit;

pub(crate) enum Preemption {
    NotEligible(String),
    NoHelp(String),
    Candidate { node: String, victims: Vec<Arc<PodView>> },
}

struct Candidate {
    node: String,
    /// Most important first.
    victims: Vec<Arc<PodView>>,
    budget_violations: usize,
}

pub(crate) fn preempt(cycle: &Cycle, total: usize, diagnosis: &Diagnosis) -> Preemption {
    if let Some(words) = not_eligible(cycle, diagnosis) {
        return Preemption::NotEligible(words.to_string());
    }
    let mut candidates = Vec::new();
    let mut refusals: BTreeMap<String, Unfit> = BTreeMap::new();
    for (name, _) in diagnosis.refusals.iter().filter(|(_, unfit)| unfit.resolvable) {
        let Some(node) = cycle.snapshot.node(name) else { continue };
        match victims_on(cycle, node) {
            Ok(candidate) => candidates.push(candidate),
            Err(unfit) => drop(refusals.insert(name.clone(), unfit)),
        }
    }
    match best(candidates) {
        Some(best) => Preemption::Candidate { node: best.node, victims: best.victims },
        None => Preemption::NoHelp(message(total, &refusals, Some("Preemption is not helpful for scheduling"))),
    }
}

fn not_eligible(cycle: &Cycle, diagnosis: &Diagnosis) -> Option<&'static str> {
    let pod = cycle.pod;
    if pod.spec().preemption_policy.as_deref() == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = cycle.snapshot.node(pod.nominated_node()?)?;
    if diagnosis.prefilter.is_some() || diagnosis.refusals.get(&node.name).is_some_and(|unfit| !unfit.resolvable) {
        return None;
    }
    let goes = |other: &Arc<PodView>| other.priority() < pod.priority() && is_preempted(other);
    node.pods.values().any(goes).then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Terminating because a scheduler wanted it.
fn is_preempted(pod: &PodView) -> bool {
    let conditions = pod.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.is_terminating()
        && conditions.iter().any(|condition| {
            condition.type_ == "DisruptionTarget"
                && condition.status == "True"
                && condition.reason.as_deref() == Some("PreemptionByScheduler")
        })
}

/// The fewest, least important pods whose going makes the pod fit: all go, then as many as possible are let back,
/// first those whose budget would be violated, most important first.
fn victims_on(cycle: &Cycle, node: &NodeView) -> Result<Candidate, Unfit> {
    let mut lower: Vec<Arc<PodView>> =
        node.pods.values().filter(|other| other.priority() < cycle.pod.priority()).cloned().collect();
    if lower.is_empty() {
        return Err(Unfit::for_good("No preemption victims found for incoming pod"));
    }
    let mut trial = node.clone();
    for pod in &lower {
        trial.remove_pod(&pod.key);
    }
    fits(cycle, &trial)?;
    lower.sort_by_key(|pod| importance(pod));
    let (violating, others) = split_by_budgets(cycle, lower);
    let mut victims = Vec::new();
    let mut budget_violations = 0;
    for (pod, violates) in
        violating.into_iter().map(|pod| (pod, true)).chain(others.into_iter().map(|pod| (pod, false)))
    {
        trial.add_pod(pod.clone());
        if fits(cycle, &trial).is_err() {
            trial.remove_pod(&pod.key);
            budget_violations += usize::from(violates);
            victims.push(pod);
        }
    }
    victims.sort_by_key(|pod| importance(pod));
    Ok(Candidate { node: node.name.clone(), victims, budget_violations })
}

fn importance(pod: &PodView) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority()), started(pod))
}

fn started(pod: &PodView) -> Timestamp {
    pod.start_time().unwrap_or_else(|| pod.created())
}

fn fits(cycle: &Cycle, trial: &NodeView) -> Result<(), Unfit> {
    let snapshot = cycle.snapshot.with(trial.clone());
    Cycle::new(&snapshot, cycle.pod).filter_with_nominated(trial).map_err(|(_, unfit)| unfit)
}

/// Pods whose going would violate a disruption budget, and the others. Each pod that goes uses its budgets up.
fn split_by_budgets(cycle: &Cycle, pods: Vec<Arc<PodView>>) -> (Vec<Arc<PodView>>, Vec<Arc<PodView>>) {
    let budgets = cycle.snapshot.budgets.values();
    let mut left: Vec<i32> = budgets
        .clone()
        .map(|budget| budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0))
        .collect();
    pods.into_iter().partition(|pod| {
        for (at, budget) in budgets.clone().enumerate() {
            let wanted = selector(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
            let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
            if pod.labels.is_empty()
                || budget.metadata.namespace.as_deref() != Some(pod.namespace())
                || wanted.is_empty()
                || !wanted.matches(&pod.labels)
                || disrupted.is_some_and(|disrupted| disrupted.contains_key(&pod.key.name))
            {
                continue;
            }
            left[at] -= 1;
            if left[at] < 0 {
                return true;
            }
        }
        false
    })
}

/// Fewest budget violations, then the least important first victim, the smallest sum of priorities, the fewest victims,
/// the latest start of the most important ones.
fn best(candidates: Vec<Candidate>) -> Option<Candidate> {
    candidates.into_iter().filter(|candidate| !candidate.victims.is_empty()).min_by_key(|candidate| {
        let highest = candidate.victims.first().map_or(0, |pod| pod.priority());
        // Raised to be positive, so that few victims of negative priority are not worse than many.
        let sum: i64 = candidate.victims.iter().map(|pod| i64::from(pod.priority()) + i64::from(i32::MAX) + 1).sum();
        let most_important = candidate.victims.iter().filter(|pod| pod.priority() == highest);
        let earliest = most_important.map(|pod| started(pod)).min();
        (candidate.budget_violations, highest, sum, candidate.victims.len(), Reverse(earliest))
    })
}
