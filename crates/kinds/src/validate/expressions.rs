//! CEL expressions in configurations of admission.
//!
//! `kubernetes/kubernetes pkg/apis/admissionregistration/validation/validation.go`: validateMatchConditions.

use machinery::cel::Program;
use machinery::field::{BadValue, FieldError, FieldErrors};
use machinery::names;

use super::At;

const CONDITIONS_MAX: usize = 64;

/// What every expression of admission may name.
pub const VARIABLES: [&str; 6] =
    ["object", "oldObject", "request", "namespaceObject", "authorizer", "authorizer.requestResource"];

/// An expression that must be there and compile.
pub fn expression(at: &At, missing: &str, variables: &[&str], errors: &mut FieldErrors) {
    let source = at.text();
    if source.trim().is_empty() {
        at.required(errors, missing);
    } else if let Err(error) = Program::compile_with(source, variables) {
        at.invalid(errors, format!("compilation failed: {error}"));
    }
}

/// The match conditions of a webhook or a policy.
pub fn match_conditions(at: &At, variables: &[&str], errors: &mut FieldErrors) {
    if at.count() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(&at.path, at.count(), CONDITIONS_MAX));
    }
    let mut seen = Vec::new();
    for condition in at.items() {
        expression(&condition.field("expression"), "", variables, errors);
        let name = condition.field("name");
        if name.must_be_set(errors) {
            name.invalid_each(errors, names::qualified_name(name.text()));
            if seen.contains(&name.text()) {
                errors.push(FieldError::duplicate(&name.path, BadValue::from(name.text())));
            }
            seen.push(name.text());
        }
    }
}
