//! Whether a pod's spec lets it run on a node: selector, required affinity, taints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

/// Node selector and required node affinity.
pub fn affinity_fits(spec: &PodSpec, node: &Node) -> bool {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    if !spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_fits(term, node, labels)))
}

fn term_fits(term: &NodeSelectorTerm, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or(&[]);
    let fields = term.match_fields.as_deref().unwrap_or(&[]);
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = node.metadata.name.clone().unwrap_or_default();
    expressions.iter().all(|e| requirement_fits(e, labels.get(&e.key)))
        && fields.iter().all(|f| f.key == "metadata.name" && requirement_fits(f, Some(&name)))
}

fn requirement_fits(rule: &NodeSelectorRequirement, value: Option<&String>) -> bool {
    let listed = value.is_some_and(|v| rule.values.iter().flatten().any(|x| x == v));
    let number = |text: &String| text.parse::<i64>().ok();
    let bound = rule.values.iter().flatten().next().and_then(number);
    match rule.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(bound).is_some_and(|(v, b)| v > b),
        "Lt" => value.and_then(number).zip(bound).is_some_and(|(v, b)| v < b),
        _ => false,
    }
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or("");
    let key = toleration.key.as_deref().unwrap_or("");
    let value = taint.value.as_deref().unwrap_or("");
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("") {
        "Exists" => true,
        "" | "Equal" => !key.is_empty() && toleration.value.as_deref().unwrap_or("") == value,
        _ => false,
    }
}

/// The first taint with one of the effects that nothing tolerates.
pub fn untolerated<'a>(node: &'a Node, tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    let mut relevant = taints.into_iter().flatten().filter(|t| effects.contains(&t.effect.as_str()));
    relevant.find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}
