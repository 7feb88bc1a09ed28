//! The rules, one file each, and the table of them: kubernetes/kubernetes pkg/scheduler/apis/config/v1/default_plugins.go
//! gives names, order and weights.

mod balanced_allocation;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_unschedulable;
mod resources_fit;
mod scheduling_gates;
mod taint_toleration;
mod topology_spread;
mod volumes;

use std::collections::BTreeSet;

use crate::cycle::Cycle;
use crate::event::ClusterEvent;
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(crate) use inter_pod_affinity::AffinityCounts;
pub(crate) use scheduling_gates::gates;
pub(crate) use topology_spread::Spread;

/// The highest score of a rule, before its weight.
pub const SCORE_MAX: i64 = 100;

/// Why a node does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Upstream's words.
    pub reasons: Vec<String>,
    /// Taking pods of lower priority away may help.
    pub resolvable: bool,
}

impl Unfit {
    pub fn resolvable(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: true }
    }

    pub fn for_good(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], resolvable: false }
    }
}

pub type Fit = Result<(), Unfit>;

/// Before nodes are looked at: only some nodes come into question (`None`: all), or the pod cannot be placed at all.
pub type Prefilter = Result<Option<BTreeSet<String>>, String>;

/// What has happened, as far as it may let a refused pod fit.
pub enum Happening<'a> {
    NodeAdded(&'a NodeView),
    NodeChanged {
        before: &'a NodeView,
        now: &'a NodeView,
    },
    NodeGone(&'a NodeView),
    /// A pod has left its node.
    PodGone(&'a PodView),
    /// A pod has come to a node, or one on a node has changed.
    PodPlaced(&'a PodView),
    /// Storage, workloads, namespaces.
    Other(&'a ClusterEvent),
}

pub struct Rule {
    pub name: &'static str,
    pub weight: i64,
    pub(crate) prefilter: fn(&Cycle) -> Prefilter,
    pub(crate) filter: fn(&Cycle, &NodeView) -> Fit,
    /// A score from 0 to [`SCORE_MAX`] for each of the nodes that fit; `None` when the rule has no opinion.
    pub(crate) score: fn(&Cycle, &[&NodeView]) -> Option<Vec<i64>>,
    /// Whether what happened may make a pod fit that this rule has refused.
    pub(crate) hint: fn(&PodView, &Happening) -> bool,
}

impl Rule {
    const fn new(name: &'static str, weight: i64) -> Self {
        Self {
            name,
            weight,
            prefilter: |_| Ok(None),
            filter: |_, _| Ok(()),
            score: |_, _| None,
            hint: |_, happening| matches!(happening, Happening::NodeAdded(_)),
        }
    }
}

pub static RULES: &[Rule] = &[
    scheduling_gates::RULE,
    node_name::RULE,
    node_unschedulable::RULE,
    taint_toleration::RULE,
    node_affinity::RULE,
    node_ports::RULE,
    resources_fit::RULE,
    volumes::RESTRICTIONS,
    volumes::LIMITS,
    volumes::BINDING,
    volumes::ZONE,
    topology_spread::RULE,
    inter_pod_affinity::RULE,
    balanced_allocation::RULE,
    image_locality::RULE,
];

pub fn rule(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}

/// kubernetes/kubernetes pkg/scheduler/framework/plugins/helper/normalize_score.go: the highest becomes the maximum, the
/// others in proportion.
fn normalise(scores: Vec<i64>, reverse: bool) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    let flip = |score: i64| if reverse { SCORE_MAX - score } else { score };
    match highest {
        0 => scores.into_iter().map(|_| if reverse { SCORE_MAX } else { 0 }).collect(),
        _ => scores.into_iter().map(|score| flip(SCORE_MAX * score / highest)).collect(),
    }
}
