//! Selectors, parsed once: which nodes and which pods a term means.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use machinery::labels::Selector;

pub type Labels = BTreeMap<String, String>;

/// A missing selector matches nothing, an empty one everything; one that does not parse matches nothing.
pub fn selector(selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else { return Selector::nothing() };
    let expressions = selector.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.clone().unwrap_or_default();
        (expression.key.as_str(), expression.operator.as_str(), values)
    });
    Selector::from_typed(selector.match_labels.iter().flatten(), expressions).unwrap_or_else(|_| Selector::nothing())
}

/// kubernetes/kubernetes staging component-helpers/scheduling/corev1/nodeaffinity: one requirement, of labels or fields.
fn requirement_holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let compared = || -> Option<(i64, i64)> { Some((value?.parse().ok()?, values.first()?.parse().ok()?)) };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(value, bound)| value > bound),
        "Lt" => compared().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// A term without any requirement matches no node.
pub fn node_term_matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let name = |key: &str| node.metadata.name.as_deref().filter(|_| key == "metadata.name");
    expressions.iter().all(|requirement| requirement_holds(requirement, label(&requirement.key)))
        && fields.iter().all(|requirement| requirement_holds(requirement, name(&requirement.key)))
}

/// `spec.nodeSelector` and the required node affinity.
pub fn pod_accepts_node(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let none = Labels::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    if spec.node_selector.iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    match affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref()) {
        None => true,
        Some(required) => required.node_selector_terms.iter().any(|term| node_term_matches(term, node)),
    }
}

/// A pod affinity or anti-affinity term: pods in some namespaces, met in a node's topology.
#[derive(Clone, Debug)]
pub struct PodTerm {
    pub selector: Selector,
    pub topology_key: String,
    namespaces: BTreeSet<String>,
    namespace_selector: Selector,
    /// 0 of a required term.
    pub weight: i64,
}

impl PodTerm {
    /// kubernetes/kubernetes pkg/scheduler/framework/types.go, newAffinityTerm: without namespaces and namespace selector
    /// the term means the pod's own namespace; matchLabelKeys have been merged into the selector by the API server.
    pub fn new(term: &PodAffinityTerm, weight: i64, own_namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(own_namespace.to_string());
        }
        Self {
            selector: selector(term.label_selector.as_ref()),
            topology_key: term.topology_key.clone(),
            namespaces,
            namespace_selector: selector(term.namespace_selector.as_ref()),
            weight,
        }
    }

    pub fn matches(&self, namespace: &str, labels: &Labels, namespace_labels: Option<&Labels>) -> bool {
        let none = Labels::new();
        (self.namespaces.contains(namespace) || self.namespace_selector.matches(namespace_labels.unwrap_or(&none)))
            && self.selector.matches(labels)
    }
}
