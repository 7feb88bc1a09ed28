//! What admission policies and their bindings share.
//!
//! `kubernetes/kubernetes pkg/apis/admissionregistration/validation/validation.go`: the rules.

use machinery::cel::Program;
use machinery::field::{BadValue, FieldError, FieldErrors};
use machinery::names;

use crate::validate::At;
use crate::validate::expressions::{VARIABLES, expression, match_conditions};
use crate::validate::selector::label_selector;

use super::webhook::rule;

/// The parts of a policy that do not depend on what it does; answers what its expressions may name.
pub fn policy(spec: &At, errors: &mut FieldErrors) -> Vec<String> {
    spec.field("failurePolicy").optional_one_of(&["Fail", "Ignore"], errors);
    let mut known: Vec<String> = VARIABLES.iter().map(|name| (*name).to_owned()).collect();
    if let Some(kind) = spec.set("paramKind") {
        kind.field("apiVersion").must_be_set(errors);
        kind.field("kind").must_be_set(errors);
        known.push("params".to_owned());
    }
    match spec.set("matchConstraints") {
        None => spec.field("matchConstraints").required(errors, ""),
        Some(constraints) => {
            constraints.field("resourceRules").must_be_set(errors);
            match_resources(&constraints, errors);
        }
    }
    match_conditions(&spec.field("matchConditions"), &names_of(&known), errors);
    for variable in spec.field("variables").items() {
        let name = variable.field("name");
        if name.text().trim().is_empty() {
            name.required(errors, "name is not specified");
        } else if !names::c_identifier(name.text()).is_empty() {
            name.invalid(errors, "must be a valid CEL identifier");
        }
        expression(&variable.field("expression"), "expression is not specified", &names_of(&known), errors);
        known.push(format!("variables.{}", name.text()));
    }
    known
}

pub fn names_of(known: &[String]) -> Vec<&str> {
    known.iter().map(String::as_str).collect()
}

fn match_resources(at: &At, errors: &mut FieldErrors) {
    label_selector(&at.field("namespaceSelector"), errors);
    label_selector(&at.field("objectSelector"), errors);
    at.field("matchPolicy").optional_one_of(&["Equivalent", "Exact"], errors);
    for list in ["resourceRules", "excludeResourceRules"] {
        for named in at.field(list).items() {
            rule(&named, errors);
            let mut seen = Vec::new();
            for name in named.field("resourceNames").items() {
                name.invalid_each(errors, names::path_segment(name.text(), false));
                if seen.contains(&name.text()) {
                    errors.push(FieldError::duplicate(&name.path, BadValue::from(name.text())));
                }
                seen.push(name.text());
            }
        }
    }
}

/// One rule of a `ValidatingAdmissionPolicy`.
pub fn validation(at: &At, known: &[String], errors: &mut FieldErrors) {
    expression(&at.field("expression"), "expression is not specified", &names_of(known), errors);
    let (message, computed) = (at.field("message"), at.field("messageExpression"));
    if computed.is_set() && !computed.text().is_empty() {
        if computed.text().trim().is_empty() {
            computed.invalid(errors, "must be non-empty if specified");
        } else if let Err(error) = Program::compile_with(computed.text(), &names_of(known)) {
            computed.invalid(errors, format!("compilation failed: {error}"));
        }
    }
    if !message.text().is_empty() && message.text().trim().is_empty() {
        message.invalid(errors, "must be non-empty if specified");
    } else if message.text().trim().contains(['\n', '\r']) {
        message.invalid(errors, "must not contain line breaks");
    }
    at.field("reason").optional_one_of(&["Forbidden", "Invalid", "RequestEntityTooLarge"], errors);
}

/// One change of a `MutatingAdmissionPolicy`.
pub fn mutation(at: &At, known: &[String], errors: &mut FieldErrors) {
    let kind = at.field("patchType");
    let (named, other) = match kind.text() {
        "" => return kind.required(errors, ""),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        _ => {
            kind.one_of(&["ApplyConfiguration", "JSONPatch"], errors);
            return;
        }
    };
    if let Some(other) = at.set(other) {
        errors.push(FieldError::invalid(
            &other.path,
            BadValue::json(other.value),
            format!("must not be specified when patchType is {}", kind.text()),
        ));
    }
    match at.set(named) {
        None => at.field(named).required(errors, &format!("must be specified when patchType is {}", kind.text())),
        Some(change) => {
            expression(&change.field("expression"), "expression is not specified", &names_of(known), errors);
        }
    }
}

/// What the two kinds of binding share.
pub fn binding(spec: &At, errors: &mut FieldErrors) {
    let policy = spec.field("policyName");
    if policy.must_be_set(errors) {
        policy.invalid_each(errors, names::dns1123_subdomain(policy.text()));
    }
    if let Some(param) = spec.set("paramRef") {
        param_ref(&param, errors);
    }
    if let Some(resources) = spec.set("matchResources") {
        match_resources(&resources, errors);
    }
}

fn param_ref(at: &At, errors: &mut FieldErrors) {
    let (name, selector) = (at.field("name"), at.field("selector"));
    match (name.text().is_empty(), selector.is_set()) {
        (true, false) => at.required(errors, "one of name or selector must be specified"),
        (false, true) => {
            for field in [&name, &selector] {
                errors.push(FieldError::forbidden(&field.path, "name and selector are mutually exclusive"));
            }
        }
        (false, false) => name.invalid_each(errors, names::path_segment(name.text(), false)),
        (true, true) => label_selector(&selector, errors),
    }
    let action = at.field("parameterNotFoundAction");
    if action.must_be_set(errors) {
        action.one_of(&["Deny", "Allow"], errors);
    }
}

/// What becomes of a failed validation.
pub fn actions(at: &At, errors: &mut FieldErrors) {
    if at.is_empty() {
        at.required(errors, "");
    }
    let mut seen = Vec::new();
    for action in at.items() {
        action.one_of(&["Audit", "Deny", "Warn"], errors);
        if seen.contains(&action.text()) {
            errors.push(FieldError::duplicate(&action.path, BadValue::from(action.text())));
        }
        seen.push(action.text());
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        at.invalid(errors, "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)");
    }
}
