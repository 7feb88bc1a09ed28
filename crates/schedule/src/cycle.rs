//! One decision: which nodes fit, which of them is best, and what to say when none is.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::node_view::NodeView;
use crate::pod_view::PodView;
use crate::preemption::{Preemption, preempt};
use crate::rules::{AffinityCounts, RULES, Spread, Unfit};
use crate::snapshot::Snapshot;

#[derive(Clone, Debug)]
pub enum Decision {
    Bind { node: String },
    Refused(Refusal),
}

/// No node now.
#[derive(Clone, Debug, Default)]
pub struct Refusal {
    /// For the event `FailedScheduling` and the condition `PodScheduled`.
    pub message: String,
    /// The rules that refused: what may change their mind wakes the pod. None: anything may.
    pub plugins: BTreeSet<&'static str>,
    /// The node that will have room when the victims are gone; `status.nominatedNodeName`.
    pub nominated: Option<String>,
    /// `status.nominatedNodeName` is no longer true.
    pub clears_nomination: bool,
    /// Pods to delete, each with the condition `DisruptionTarget` first, to make room on the nominated node.
    pub victims: Vec<Arc<Pod>>,
}

/// What a decision works with. Counts over all nodes are made when a rule first asks.
pub struct Cycle<'a> {
    pub snapshot: &'a Snapshot,
    pub pod: &'a PodView,
    spread: OnceCell<Spread>,
    affinity: OnceCell<AffinityCounts>,
}

impl<'a> Cycle<'a> {
    pub fn new(snapshot: &'a Snapshot, pod: &'a PodView) -> Self {
        Self { snapshot, pod, spread: OnceCell::new(), affinity: OnceCell::new() }
    }

    pub fn nodes(&self) -> impl Iterator<Item = &'a Arc<NodeView>> {
        self.snapshot.nodes()
    }

    pub(crate) fn spread(&self) -> &Spread {
        self.spread.get_or_init(|| Spread::of(self))
    }

    pub(crate) fn affinity_counts(&self) -> &AffinityCounts {
        self.affinity.get_or_init(|| AffinityCounts::of(self))
    }

    /// The first rule that refuses the node.
    pub fn filter(&self, node: &NodeView) -> Result<(), (&'static str, Unfit)> {
        RULES.iter().try_for_each(|rule| (rule.filter)(self, node).map_err(|unfit| (rule.name, unfit)))
    }

    /// Pods of the same or higher priority that wait for room on a node are treated as if they were there; but the pod
    /// must also fit without them, for they may never come.
    pub fn filter_with_nominated(&self, node: &NodeView) -> Result<(), (&'static str, Unfit)> {
        let waiting: Vec<&Arc<PodView>> = self
            .snapshot
            .nominated()
            .filter(|(on, pod)| *on == node.name && pod.priority() >= self.pod.priority() && pod.key != self.pod.key)
            .map(|(_, pod)| pod)
            .collect();
        if !waiting.is_empty() {
            let mut full = node.clone();
            waiting.into_iter().for_each(|pod| full.add_pod(pod.clone()));
            let snapshot = self.snapshot.with(full.clone());
            Cycle::new(&snapshot, self.pod).filter(&full)?;
        }
        self.filter(node)
    }

    fn score(&self, nodes: &[&NodeView]) -> Vec<i64> {
        let mut totals = vec![0; nodes.len()];
        for rule in RULES {
            let Some(scores) = (rule.score)(self, nodes) else { continue };
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += score * rule.weight);
        }
        totals
    }
}

/// Where a pod goes. The seed decides between equals, and where to begin when not all nodes are looked at.
pub fn decide(snapshot: &Snapshot, pod: &Pod, seed: u64) -> Decision {
    decide_view(snapshot, &PodView::new(Arc::new(pod.clone())), seed)
}

pub(crate) fn decide_view(snapshot: &Snapshot, pod: &PodView, seed: u64) -> Decision {
    let cycle = Cycle::new(snapshot, pod);
    let total = cycle.nodes().count();
    if total == 0 {
        let message = "no nodes available to schedule pods".to_string();
        return Decision::Refused(Refusal { message, ..Refusal::default() });
    }
    let only = match prefilter(&cycle) {
        Ok(only) => only,
        Err((rule, message)) => return refuse(&cycle, total, Diagnosis::of_prefilter(rule, message)),
    };
    if let Some(node) = nominated_node(&cycle, only.as_ref()) {
        return Decision::Bind { node };
    }
    let (feasible, diagnosis) = feasible_nodes(&cycle, total, only.as_ref(), seed);
    match feasible.as_slice() {
        [] => refuse(&cycle, total, diagnosis),
        [one] => Decision::Bind { node: one.name.clone() },
        many => {
            let scores = cycle.score(many);
            let best = scores.iter().copied().max().unwrap_or(0);
            let equals: Vec<&&NodeView> =
                many.iter().zip(&scores).filter(|(_, score)| **score == best).map(|(node, _)| node).collect();
            let at = usize::try_from(mix(seed) % equals.len() as u64).unwrap_or(0);
            Decision::Bind { node: equals[at].name.clone() }
        }
    }
}

/// splitmix64: spreads a seed's bits.
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The nodes that come into question for some rules, with those rules.
struct Only {
    nodes: BTreeSet<String>,
    rules: BTreeSet<&'static str>,
}

fn go_list(names: &BTreeSet<&'static str>) -> String {
    format!("[{}]", names.iter().copied().collect::<Vec<_>>().join(" "))
}

fn prefilter(cycle: &Cycle) -> Result<Option<Only>, (&'static str, String)> {
    let mut only: Option<Only> = None;
    for rule in RULES {
        let Some(nodes) = (rule.prefilter)(cycle).map_err(|message| (rule.name, message))? else { continue };
        let merged = match only.take() {
            None => Only { nodes, rules: BTreeSet::from([rule.name]) },
            Some(mut so_far) => {
                so_far.rules.insert(rule.name);
                Only { nodes: so_far.nodes.intersection(&nodes).cloned().collect(), rules: so_far.rules }
            }
        };
        if merged.nodes.is_empty() {
            let which = go_list(&merged.rules);
            return Err((rule.name, format!("node(s) didn't satisfy plugin(s) {which} simultaneously")));
        }
        only = Some(merged);
    }
    Ok(only)
}

/// The node that was cleared for this pod is tried first, and alone.
fn nominated_node(cycle: &Cycle, only: Option<&Only>) -> Option<String> {
    let known = cycle.snapshot.nominated().find(|(_, pod)| pod.key == cycle.pod.key).map(|(node, _)| node);
    let node = cycle.snapshot.node(known.or_else(|| cycle.pod.nominated_node())?)?;
    if only.is_some_and(|only| !only.nodes.contains(&node.name)) {
        return None;
    }
    cycle.filter_with_nominated(node).ok().map(|()| node.name.clone())
}

/// Why each node was refused.
#[derive(Default)]
pub(crate) struct Diagnosis {
    pub refusals: BTreeMap<String, Unfit>,
    pub plugins: BTreeSet<&'static str>,
    /// Words for nodes that were not looked at.
    pub absent: Option<String>,
    /// The pod was refused before any node was looked at.
    pub prefilter: Option<String>,
}

impl Diagnosis {
    fn of_prefilter(rule: &'static str, message: String) -> Self {
        Self { plugins: BTreeSet::from([rule]), prefilter: Some(message), ..Self::default() }
    }
}

/// kubernetes/kubernetes pkg/scheduler/schedule_one.go, numFeasibleNodesToFind.
fn feasible_enough(total: usize) -> usize {
    if total < 100 {
        return total;
    }
    let percentage = 50_usize.saturating_sub(total / 125).max(5);
    (total * percentage / 100).max(100)
}

fn feasible_nodes<'a>(
    cycle: &Cycle<'a>,
    total: usize,
    only: Option<&Only>,
    seed: u64,
) -> (Vec<&'a NodeView>, Diagnosis) {
    let mut diagnosis = Diagnosis::default();
    let candidates: Vec<&'a NodeView> = match only {
        None => cycle.nodes().map(|node| &**node).collect(),
        Some(only) => {
            diagnosis.absent = Some(format!("node(s) didn't satisfy plugin(s) {}", go_list(&only.rules)));
            diagnosis.plugins.extend(&only.rules);
            only.nodes.iter().filter_map(|name| cycle.snapshot.node(name)).map(|node| &**node).collect()
        }
    };
    let enough = feasible_enough(total);
    let start = match candidates.len() > enough {
        true => usize::try_from(mix(!seed) % candidates.len() as u64).unwrap_or(0),
        false => 0,
    };
    let mut feasible = Vec::new();
    for node in candidates.iter().cycle().skip(start).take(candidates.len()) {
        match cycle.filter_with_nominated(node) {
            Ok(()) => feasible.push(*node),
            Err((rule, unfit)) => {
                diagnosis.plugins.insert(rule);
                diagnosis.refusals.insert(node.name.clone(), unfit);
            }
        }
        if feasible.len() >= enough {
            break;
        }
    }
    (feasible, diagnosis)
}

/// kubernetes/kubernetes pkg/scheduler/framework/types.go, FitError.Error: `0/3 nodes are available: 1 A, 2 B.`
pub(crate) fn message(total: usize, refusals: &BTreeMap<String, Unfit>, absent: Option<&str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.values().flat_map(|unfit| &unfit.reasons) {
        *counts.entry(reason).or_insert(0) += 1;
    }
    if let Some(absent) = absent.filter(|_| refusals.len() < total) {
        *counts.entry(absent).or_insert(0) += total - refusals.len();
    }
    let mut parts: Vec<String> = counts.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    match parts.is_empty() {
        true => format!("0/{total} nodes are available:"),
        false => format!("0/{total} nodes are available: {}.", parts.join(", ")),
    }
}

fn refuse(cycle: &Cycle, total: usize, diagnosis: Diagnosis) -> Decision {
    let why = match &diagnosis.prefilter {
        Some(words) => format!("0/{total} nodes are available: {words}."),
        None => message(total, &diagnosis.refusals, diagnosis.absent.as_deref()),
    };
    // A gated pod does not get so far as to preempt.
    if diagnosis.plugins.contains("SchedulingGates") {
        return Decision::Refused(Refusal { message: why, plugins: diagnosis.plugins, ..Refusal::default() });
    }
    let mut refusal = Refusal { plugins: diagnosis.plugins.clone(), ..Refusal::default() };
    let words = match preempt(cycle, total, &diagnosis) {
        Preemption::NotEligible(words) => words,
        Preemption::NoHelp(words) => {
            refusal.clears_nomination = true;
            words
        }
        Preemption::Candidate { node, victims } => {
            let count = victims.len();
            let words = format!("found a potential placement for pod on node {node}, preempting {count} victims");
            refusal.nominated = Some(node);
            refusal.victims = victims.into_iter().map(|victim| victim.pod.clone()).collect();
            words
        }
    };
    refusal.message = format!("{why} preemption: {words}");
    Decision::Refused(refusal)
}
