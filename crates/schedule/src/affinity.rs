//! Selectors of pods, parsed once: which pods a term means.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodAffinityTerm;
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
