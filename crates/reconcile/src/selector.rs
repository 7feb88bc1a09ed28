//! Which labels a selector of the API takes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels, absent when an object has none.
pub type Labels = Option<BTreeMap<String, String>>;

/// Whether a label selector takes these labels. An absent selector takes nothing, an empty one everything; an
/// operator that validation would have refused takes nothing.
pub fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let get = |key: &str| labels.as_ref().and_then(|l| l.get(key));
    let exact = selector.match_labels.iter().flatten().all(|(k, v)| get(k) == Some(v));
    exact
        && selector.match_expressions.iter().flatten().all(|rule| {
            let value = get(&rule.key);
            let listed = value.is_some_and(|v| rule.values.iter().flatten().any(|x| x == v));
            match rule.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a plain map of labels (a Service's or ReplicationController's selector) is contained in these labels.
pub fn contains(wanted: &Labels, labels: &Labels) -> bool {
    wanted.iter().flatten().all(|(k, v)| labels.as_ref().and_then(|l| l.get(k)) == Some(v))
}

/// Whether the selector would take every object.
pub fn is_empty(selector: Option<&LabelSelector>) -> bool {
    selector.is_some_and(|s| {
        s.match_labels.as_ref().is_none_or(|m| m.is_empty())
            && s.match_expressions.as_ref().is_none_or(|m| m.is_empty())
    })
}
