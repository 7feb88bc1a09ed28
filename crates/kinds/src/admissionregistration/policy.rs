//! What the admission policies and their bindings have in common.
//!
//! `kubernetes/kubernetes pkg/apis/admissionregistration/validation/validation.go`: the rules. Expressions are not looked at.

use machinery::field::FieldErrors;
use machinery::names;

use crate::validate::At;

/// When a policy counts and what becomes of a request that it cannot judge.
pub(super) fn policy(spec: &At, errors: &mut FieldErrors) {
    spec.field("failurePolicy").optional_one_of(&["Fail", "Ignore"], errors);
    if let Some(kind) = spec.set("paramKind") {
        kind.field("apiVersion").must_be_set(errors);
        kind.field("kind").must_be_set(errors);
    }
    let constraints = spec.field("matchConstraints");
    if !constraints.is_set() {
        constraints.required(errors, "");
    } else if constraints.field("resourceRules").is_empty() {
        constraints.field("resourceRules").required(errors, "");
    }
    for variable in spec.field("variables").items() {
        for (field, detail) in [("name", "name is not specified"), ("expression", "expression is not specified")] {
            let text = variable.field(field);
            if text.text().trim().is_empty() {
                text.required(errors, detail);
            }
        }
    }
}

/// Which policy a binding is of.
pub(super) fn bound_policy(spec: &At, errors: &mut FieldErrors) {
    let name = spec.field("policyName");
    if name.must_be_set(errors) {
        name.invalid_each(errors, names::dns1123_subdomain(name.text()));
    }
}
