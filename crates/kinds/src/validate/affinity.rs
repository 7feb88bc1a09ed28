//! Where a pod may go: affinity, tolerations, spread constraints.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use super::selector::{label_key, label_selector, node_selector, node_selector_term};
use super::{At, positive};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub fn affinity(at: &At, errors: &mut FieldErrors) {
    if let Some(node) = at.set("nodeAffinity") {
        if let Some(required) = node.set(REQUIRED) {
            node_selector(&required, errors);
        }
        for term in node.field(PREFERRED).items() {
            weight(&term.field("weight"), errors);
            node_selector_term(&term.field("preference"), false, errors);
        }
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let pods = at.field(name);
        for term in pods.field(REQUIRED).items() {
            pod_term(&term, errors);
        }
        for term in pods.field(PREFERRED).items() {
            weight(&term.field("weight"), errors);
            pod_term(&term.field("podAffinityTerm"), errors);
        }
    }
}

fn weight(at: &At, errors: &mut FieldErrors) {
    if !(1..=100).contains(&at.int()) {
        at.invalid(errors, "must be in the range 1-100");
    }
}

fn pod_term(term: &At, errors: &mut FieldErrors) {
    label_selector(&term.field("labelSelector"), errors);
    label_selector(&term.field("namespaceSelector"), errors);
    for namespace in term.field("namespaces").texts() {
        errors.invalid_each(&term.path.child("namespace"), namespace, names::dns1123_label(namespace));
    }
    label_keys(term, errors);
    let key = term.field("topologyKey");
    if key.is_empty() {
        key.required(errors, "can not be empty");
    }
    label_key(&key, errors);
}

/// `matchLabelKeys` and `mismatchLabelKeys` add to a label selector, so there must be one.
fn label_keys(term: &At, errors: &mut FieldErrors) {
    let selector = term.set("labelSelector");
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.field(name);
        if keys.is_empty() {
            continue;
        }
        if selector.is_none() {
            keys.forbidden(errors, "must not be specified when labelSelector is not set");
            continue;
        }
        keys.items().for_each(|key| label_key(&key, errors));
    }
    let unwanted = term.field("mismatchLabelKeys").texts();
    for key in term.field("matchLabelKeys").items().filter(|key| unwanted.contains(&key.text())) {
        key.invalid(errors, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

pub fn tolerations(at: &At, errors: &mut FieldErrors) {
    for toleration in at.items() {
        let [key, operator, value, effect] = ["key", "operator", "value", "effect"].map(|name| toleration.field(name));
        let mut refuse = |at: &At, shown: &str, detail: &str| {
            errors.push(FieldError::invalid(&at.path, shown, detail));
        };
        if !key.is_empty() {
            for complaint in names::qualified_name(key.text()) {
                refuse(&key, key.text(), &complaint);
            }
        } else if !operator.is("Exists") {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            refuse(&operator, operator.text(), detail);
        }
        if toleration.field("tolerationSeconds").is_set() && !effect.is("NoExecute") {
            refuse(&effect, effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "Equal" | "" => {
                let complaints = names::label_value(value.text());
                if !complaints.is_empty() {
                    refuse(&operator, value.text(), &complaints.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                refuse(&operator, value.text(), "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            // Comparisons are known and switched off, which the list of what is supported gives away.
            "Lt" | "Gt" => {
                let values = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(FieldError::not_supported(&operator.path, operator.text(), &values));
            }
            _ => {
                operator.one_of(&["Equal", "Exists"], errors);
            }
        }
        if !effect.is_empty() {
            effect.one_of(EFFECTS, errors);
        }
    }
}

/// A node's taints.
pub fn taints(at: &At, errors: &mut FieldErrors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for taint in at.items() {
        let [key, value, effect] = ["key", "value", "effect"].map(|name| taint.field(name));
        label_key(&key, errors);
        let complaints = names::label_value(value.text());
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(&value.path, value.text(), complaints.join(";")));
        }
        effect.required_one_of(EFFECTS, errors);
        let identity = (key.text(), effect.text());
        if seen.contains(&identity) {
            let path = taint.path.clone();
            let mut error = FieldError::duplicate(&path, taint.value);
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
        seen.push(identity);
    }
}

pub fn spread_constraints(at: &At, errors: &mut FieldErrors) {
    let all: Vec<At> = at.items().collect();
    for (index, constraint) in all.iter().enumerate() {
        positive(&constraint.field("maxSkew"), errors);
        let key = constraint.field("topologyKey");
        if key.is_empty() {
            key.required(errors, "can not be empty");
        }
        let action = constraint.field("whenUnsatisfiable");
        action.one_of(&["DoNotSchedule", "ScheduleAnyway"], errors);
        let same = |other: &At| {
            other.field("topologyKey").is(key.text()) && other.field("whenUnsatisfiable").is(action.text())
        };
        if all[index + 1..].iter().any(same) {
            let path = constraint.path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&path, format!("{{{}, {}}}", key.text(), action.text())));
        }
        if let Some(domains) = constraint.set("minDomains") {
            positive(&domains, errors);
            if !action.is("DoNotSchedule") {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
                domains.invalid(errors, detail);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.field(policy).optional_one_of(&["Honor", "Ignore"], errors);
        }
        label_keys(constraint, errors);
        label_selector(&constraint.field("labelSelector"), errors);
    }
}
