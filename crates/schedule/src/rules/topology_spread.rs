//! `PodTopologySpread`: pods that belong together are spread over zones, hosts or whatever the labels name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use kinds::nodefit::affinity_fits;
use machinery::labels::Selector;

use super::taint_toleration::repels;
use super::{Fit, Happening, Rule, SCORE_MAX, Unfit};
use crate::affinity::selector;
use crate::cycle::Cycle;
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(super) const RULE: Rule = Rule {
    filter,
    score,
    hint: |pod, happening| match happening {
        Happening::NodeAdded(_) | Happening::NodeGone(_) => true,
        Happening::NodeChanged { before, now } => before.labels != now.labels || before.taints != now.taints,
        Happening::PodGone(other) | Happening::PodPlaced(other) => concerns(pod, other),
        Happening::Other(_) => false,
    },
    ..Rule::new("PodTopologySpread", 2)
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// One constraint, parsed.
pub(crate) struct Constraint {
    skew_max: i64,
    key: String,
    selector: Selector,
    domains_min: usize,
    honors_affinity: bool,
    honors_taints: bool,
}

impl Constraint {
    fn new(constraint: &TopologySpreadConstraint, pod: &PodView) -> Self {
        let mut wanted = selector(constraint.label_selector.as_ref());
        let keys = constraint.match_label_keys.iter().flatten();
        let labels = keys.filter_map(|key| pod.labels.get(key).map(|value| (key.as_str(), value.as_str())));
        wanted = wanted.and(Selector::from_set(labels).requirements().iter().cloned());
        Self {
            skew_max: constraint.max_skew.into(),
            key: constraint.topology_key.clone(),
            selector: wanted,
            domains_min: constraint.min_domains.and_then(|min| usize::try_from(min).ok()).unwrap_or(1),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }

    fn by_default(key: &str, skew_max: i64, selector: &Selector) -> Self {
        let (key, selector) = (key.to_string(), selector.clone());
        Self { skew_max, key, selector, domains_min: 1, honors_affinity: true, honors_taints: false }
    }

    fn counts_node(&self, pod: &PodView, node: &NodeView) -> bool {
        let accepted = || node.node.as_ref().is_some_and(|node| affinity_fits(pod.spec(), node));
        (!self.honors_affinity || accepted()) && (!self.honors_taints || !repels(pod, node))
    }

    fn count(&self, pod: &PodView, node: &NodeView) -> i64 {
        let same = node.pods.values().filter(|other| {
            other.namespace() == pod.namespace() && !other.is_terminating() && self.selector.matches(&other.labels)
        });
        same.count() as i64
    }
}

fn constraints(pod: &PodView, action: &str) -> Vec<Constraint> {
    let all = pod.spec().topology_spread_constraints.iter().flatten();
    all.filter(|it| it.when_unsatisfiable == action).map(|it| Constraint::new(it, pod)).collect()
}

fn concerns(pod: &PodView, other: &PodView) -> bool {
    pod.namespace() == other.namespace()
        && constraints(pod, "DoNotSchedule").iter().any(|it| it.selector.matches(&other.labels))
}

/// Matching pods by domain, for each constraint that must hold.
pub(crate) struct Spread(Vec<(Constraint, BTreeMap<String, i64>)>);

impl Spread {
    pub fn of(cycle: &Cycle) -> Self {
        let all = constraints(cycle.pod, "DoNotSchedule");
        let mut counted: Vec<_> = all.into_iter().map(|it| (it, BTreeMap::new())).collect();
        for node in cycle.nodes() {
            if !counted.iter().all(|(it, _)| node.labels.contains_key(&it.key)) {
                continue;
            }
            for (constraint, counts) in &mut counted {
                if constraint.counts_node(cycle.pod, node) {
                    let domain = node.labels[&constraint.key].clone();
                    *counts.entry(domain).or_insert(0) += constraint.count(cycle.pod, node);
                }
            }
        }
        Self(counted)
    }
}

fn filter(cycle: &Cycle, node: &NodeView) -> Fit {
    for (constraint, counts) in &cycle.spread().0 {
        let Some(domain) = node.labels.get(&constraint.key) else {
            return Err(Unfit::for_good(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ));
        };
        let fewest = match counts.len() < constraint.domains_min {
            true => 0,
            false => counts.values().copied().min().unwrap_or(0),
        };
        let itself = i64::from(constraint.selector.matches(&cycle.pod.labels));
        if counts.get(domain).copied().unwrap_or(0) + itself - fewest > constraint.skew_max {
            return Err(Unfit::resolvable("node(s) didn't match pod topology spread constraints"));
        }
    }
    Ok(())
}

/// kubernetes/kubernetes pkg/scheduler/framework/plugins/podtopologyspread/scoring.go: fewer matching pods in a node's
/// domains score higher; a constraint over few domains weighs less.
fn score(cycle: &Cycle, nodes: &[&NodeView]) -> Option<Vec<i64>> {
    let own = cycle.pod.spec().topology_spread_constraints.as_ref().is_some_and(|own| !own.is_empty());
    let soft = match own {
        true => constraints(cycle.pod, "ScheduleAnyway"),
        false => {
            let wanted = cycle.snapshot.default_selector(cycle.pod)?;
            vec![Constraint::by_default(HOSTNAME, 3, &wanted), Constraint::by_default(ZONE, 5, &wanted)]
        }
    };
    if soft.is_empty() {
        return None;
    }
    let ignored = |node: &NodeView| own && !soft.iter().all(|it| node.labels.contains_key(&it.key));
    let considered: Vec<&&NodeView> = nodes.iter().filter(|node| !ignored(node)).collect();
    let mut domains: Vec<BTreeMap<&str, i64>> = soft.iter().map(|_| BTreeMap::new()).collect();
    for (constraint, domains) in soft.iter().zip(&mut domains).filter(|(it, _)| it.key != HOSTNAME) {
        let values = considered.iter().map(|node| node.labels.get(&constraint.key).map_or("", String::as_str));
        domains.extend(values.map(|value| (value, 0)));
        for node in cycle.nodes().filter(|node| !ignored(node) && constraint.counts_node(cycle.pod, node)) {
            let value = node.labels.get(&constraint.key).map_or("", String::as_str);
            if let Some(count) = domains.get_mut(value) {
                *count += constraint.count(cycle.pod, node);
            }
        }
    }
    let raw = |node: &NodeView| -> i64 {
        let parts = soft.iter().zip(&domains).filter_map(|(constraint, domains)| {
            let value = node.labels.get(&constraint.key)?;
            let (count, size) = match constraint.key == HOSTNAME {
                true => (constraint.count(cycle.pod, node), considered.len()),
                false => (domains.get(value.as_str()).copied().unwrap_or(0), domains.len()),
            };
            Some(count as f64 * ((size + 2) as f64).ln() + (constraint.skew_max - 1) as f64)
        });
        parts.sum::<f64>().round() as i64
    };
    let raws: Vec<Option<i64>> = nodes.iter().map(|node| (!ignored(node)).then(|| raw(node))).collect();
    let (lowest, highest) = (raws.iter().flatten().min().copied()?, raws.iter().flatten().max().copied()?);
    let score_of = |raw: Option<i64>| match (raw, highest) {
        (None, _) => 0,
        (Some(_), 0) => SCORE_MAX,
        (Some(raw), highest) => SCORE_MAX * (highest + lowest - raw) / highest,
    };
    Some(raws.into_iter().map(score_of).collect())
}
