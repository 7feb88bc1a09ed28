//! `NodeAffinity`: the pod's node selector and node affinity.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NodeSelectorTerm, PreferredSchedulingTerm};
use kinds::nodefit::{affinity_fits, term_fits};

use super::{Happening, Prefilter, Rule, Unfit, normalise};
use crate::cycle::Cycle;
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(super) const RULE: Rule = Rule {
    prefilter,
    filter: |cycle, node| match accepts(cycle.pod, node) {
        true => Ok(()),
        false => Err(Unfit::for_good("node(s) didn't match Pod's node affinity/selector")),
    },
    score,
    hint: |pod, happening| match happening {
        Happening::NodeAdded(node) => accepts(pod, node),
        Happening::NodeChanged { before, now } => !accepts(pod, before) && accepts(pod, now),
        _ => false,
    },
    ..Rule::new("NodeAffinity", 2)
};

fn accepts(pod: &PodView, node: &NodeView) -> bool {
    node.node.as_ref().is_some_and(|node| affinity_fits(pod.spec(), node))
}

fn required(pod: &PodView) -> &[NodeSelectorTerm] {
    let affinity = pod.spec().affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    required.map(|required| required.node_selector_terms.as_slice()).unwrap_or_default()
}

/// Names of nodes when every term asks for some by `metadata.name`.
fn prefilter(cycle: &Cycle) -> Prefilter {
    let terms = required(cycle.pod);
    if terms.is_empty() {
        return Ok(None);
    }
    let mut names = BTreeSet::new();
    for term in terms {
        let by_name = term.match_fields.iter().flatten().filter(|it| it.key == "metadata.name" && it.operator == "In");
        let sets = by_name.map(|it| it.values.iter().flatten().cloned().collect::<BTreeSet<String>>());
        match sets.reduce(|one, other| one.intersection(&other).cloned().collect()) {
            None => return Ok(None),
            Some(wanted) => names.extend(wanted),
        }
    }
    if names.is_empty() { Err("pod affinity terms conflict".to_string()) } else { Ok(Some(names)) }
}

fn preferred(pod: &PodView) -> &[PreferredSchedulingTerm] {
    let affinity = pod.spec().affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = affinity.and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref());
    preferred.map(Vec::as_slice).unwrap_or_default()
}

fn score(cycle: &Cycle, nodes: &[&NodeView]) -> Option<Vec<i64>> {
    let terms = preferred(cycle.pod);
    if terms.is_empty() {
        return None;
    }
    let score_of = |node: &&NodeView| -> i64 {
        let Some(object) = &node.node else { return 0 };
        let matching = terms.iter().filter(|term| term.weight != 0 && term_fits(&term.preference, object));
        matching.map(|term| i64::from(term.weight)).sum()
    };
    Some(normalise(nodes.iter().map(score_of).collect(), false))
}
