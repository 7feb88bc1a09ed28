//! Label selectors, labels and node selectors.
//!
//! `k8s.io/apimachinery pkg/apis/meta/v1/validation`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::labels::Selector;
use machinery::names;
use serde_json::Value;

use super::At;
use crate::meta::validate_labels;

/// A map of labels.
pub fn labels(at: &At, errors: &mut FieldErrors) {
    validate_labels(at.value.as_object(), &at.path, errors);
}

/// A label's key.
pub fn label_key(at: &At, errors: &mut FieldErrors) {
    at.invalid_each(errors, names::qualified_name(at.text()));
}

/// A `metav1.LabelSelector`.
pub fn label_selector(at: &At, errors: &mut FieldErrors) {
    labels(&at.field("matchLabels"), errors);
    for requirement in at.field("matchExpressions").items() {
        let values = requirement.field("values");
        match requirement.field("operator").text() {
            "In" | "NotIn" if values.is_empty() => {
                values.required(errors, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden(errors, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Exists" | "DoesNotExist" => {}
            _ => requirement.field("operator").invalid(errors, "not a valid selector operator"),
        }
        label_key(&requirement.field("key"), errors);
        label_values(&values, errors);
    }
}

fn label_values(values: &At, errors: &mut FieldErrors) {
    for value in values.items() {
        value.invalid_each(errors, names::label_value(value.text()));
    }
}

/// A selector that selects everything because it asks for nothing.
pub fn is_empty_selector(at: &At) -> bool {
    at.field("matchLabels").count() + at.field("matchExpressions").count() == 0
}

/// Whether a selector selects what has these labels; none when the selector is broken.
pub fn selects(selector: &At, labels: &Value) -> Option<bool> {
    let selector = Selector::from_label_selector(Some(selector.value)).ok()?;
    let empty = serde_json::Map::new();
    Some(selector.matches(labels.as_object().unwrap_or(&empty)))
}

/// A `v1.NodeSelector`; `check_values` where label values must be valid too.
pub fn node_selector(at: &At, errors: &mut FieldErrors) {
    let terms = at.field("nodeSelectorTerms");
    if terms.is_empty() {
        return terms.required(errors, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_selector_term(&term, true, errors);
    }
}

/// One term of a node selector.
pub fn node_selector_term(term: &At, check_values: bool, errors: &mut FieldErrors) {
    for requirement in term.field("matchExpressions").items() {
        node_requirement(&requirement, check_values, errors);
    }
    for requirement in term.field("matchFields").items() {
        node_field(&requirement, errors);
    }
}

fn node_requirement(requirement: &At, check_values: bool, errors: &mut FieldErrors) {
    let values = requirement.field("values");
    match (requirement.field("operator").text(), values.count()) {
        ("In" | "NotIn", 0) => values.required(errors, "must be specified when `operator` is 'In' or 'NotIn'"),
        ("Exists" | "DoesNotExist", 1..) => {
            values.forbidden(errors, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        ("Gt" | "Lt", 0 | 2..) => {
            values.required(errors, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        ("In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt", _) => {}
        _ => requirement.field("operator").invalid(errors, "not a valid selector operator"),
    }
    label_key(&requirement.field("key"), errors);
    if check_values {
        label_values(&values, errors);
    }
}

fn node_field(requirement: &At, errors: &mut FieldErrors) {
    let values = requirement.field("values");
    match requirement.field("operator").text() {
        "In" | "NotIn" if values.count() != 1 => {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            values.required(errors, detail);
        }
        "In" | "NotIn" => {}
        _ => requirement.field("operator").invalid(errors, "not a valid selector operator"),
    }
    let key = requirement.field("key");
    if !key.is("metadata.name") {
        return errors.push(FieldError::invalid(&key.path, key.text(), "not a valid field selector key"));
    }
    for value in values.items() {
        value.invalid_each(errors, names::dns1123_subdomain(value.text()));
    }
}
