//! Pod templates, and what a controller of pods has besides one.
//!
//! `kubernetes/kubernetes pkg/apis/{apps,core}/validation/validation.go`: the rules.

use machinery::field::{BadValue, FieldError, FieldErrors};
use machinery::go;
use serde_json::Value;

use super::pod_spec::pod_spec;
use super::pod_warnings;
use super::selector::{is_empty_selector, label_selector, labels, selects};
use super::{At, counts_within, immutable, nonnegative, nonnegative_fields, shown};
use crate::meta::validate_annotations;

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A template without the rules of a controller.
pub fn pod_template(template: &At, errors: &mut FieldErrors) {
    let metadata = template.field("metadata");
    // Upstream reports both beside `metadata`, not in it.
    labels(&metadata.field("labels").reported_at(template.path.child("labels")), errors);
    let annotations = metadata.field("annotations").reported_at(template.path.child("annotations"));
    validate_annotations(annotations.value.as_object(), &annotations.path, errors);
    let spec = template.field("spec");
    pod_annotations(&annotations, &spec, errors);
    pod_spec(&spec, None, errors);
    let ephemeral = spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden(errors, "ephemeral containers not allowed in pod template");
    }
}

/// Annotations that mean something to pods.
pub fn pod_annotations(annotations: &At, spec: &At, errors: &mut FieldErrors) {
    let mirror = annotations.field(MIRROR);
    if mirror.is_set() && spec.field("nodeName").is_empty() {
        let detail = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(&annotations.path.key(MIRROR), mirror.text(), detail));
    }
    let cost = annotations.field(DELETION_COST);
    let digits = cost.text().strip_prefix('-').unwrap_or(cost.text());
    let canonical = digits == "0" || !digits.starts_with(['0', '+']);
    if cost.is_set() && (cost.text().parse::<i32>().is_err() || !canonical) {
        let path = annotations.path.key(DELETION_COST);
        errors.push(FieldError::invalid(&path, cost.text(), "must be a 32bit integer"));
    }
}

/// How the rules of controllers differ.
pub struct Controller {
    /// As messages about the deadline name it.
    pub shown: &'static str,
    /// As the message about an empty selector names it.
    pub empty_selector: &'static str,
}

/// `selector` and `template` of a controller whose pods run for ever.
pub fn selector_and_template(spec: &At, of: &Controller, errors: &mut FieldErrors) {
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    if !selector.is_set() {
        selector.required(errors, "");
    } else {
        label_selector(&selector, errors);
        if is_empty_selector(&selector) {
            selector.invalid(errors, format!("empty selector is invalid for {}", of.empty_selector));
        }
    }
    match selects(&selector, template.fields(&["metadata", "labels"]).value) {
        None => errors.push(FieldError::invalid(&selector.path, selector_shown(&selector), "invalid label selector")),
        Some(selected) => {
            // Without a selector nothing is selected; with an empty one anything is.
            if !selected {
                does_not_match(&template, errors);
            }
            pod_template(&template, errors);
            runs_for_ever(&template, of.shown, errors);
        }
    }
}

/// A selector as Go's encoder writes it: its fields in their order.
fn selector_shown(selector: &At) -> BadValue {
    let text = |value: &Value| go::json(value);
    let mut parts = Vec::new();
    if let Some(labels) = selector.set("matchLabels").filter(|labels| !labels.is_empty()) {
        parts.push(format!("\"matchLabels\":{}", text(labels.value)));
    }
    let requirement = |at: At| {
        let values = at.field("values");
        let values = if values.is_empty() { String::new() } else { format!(",\"values\":{}", text(values.value)) };
        let quoted = |name: &str| go::quote(at.field(name).text());
        format!("{{\"key\":{},\"operator\":{}{values}}}", quoted("key"), quoted("operator"))
    };
    let requirements: Vec<String> = selector.field("matchExpressions").items().map(requirement).collect();
    if !requirements.is_empty() {
        parts.push(format!("\"matchExpressions\":[{}]", requirements.join(",")));
    }
    shown(format!("{{{}}}", parts.join(",")))
}

/// A strategy as Go's encoder writes the internal type: of what kind it is, and what is said of its rolling update.
pub fn strategy_shown(strategy: &At, members: &[(&str, &str)]) -> BadValue {
    let rolling = strategy.field("rollingUpdate");
    let member = |(go_name, name): &(&str, &str)| format!("\"{go_name}\":{}", go::json(rolling.field(name).value));
    let rolling = match rolling.is_set() {
        true => format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(",")),
        false => "null".to_owned(),
    };
    shown(format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", go::quote(strategy.field("type").text())))
}

/// What a client is warned of in the template of a controller, when it is new or changed.
pub fn warnings(object: &Value, old: Option<&Value>) -> Vec<String> {
    let template = |object: &Value| object.pointer("/spec/template").cloned();
    if old.is_some_and(|old| template(old) == template(object)) {
        return Vec::new();
    }
    pod_warnings::pod(&At::root(object).fields(&["spec", "template"]))
}

pub fn does_not_match(template: &At, errors: &mut FieldErrors) {
    template.fields(&["metadata", "labels"]).invalid(errors, "`selector` does not match template `labels`");
}

/// Pods that are started again whatever they end with.
pub fn runs_for_ever(template: &At, controller: &str, errors: &mut FieldErrors) {
    let spec = template.field("spec");
    spec.field("restartPolicy").one_of(&["Always"], errors);
    let deadline = spec.field("activeDeadlineSeconds");
    if deadline.is_set() {
        deadline.forbidden(errors, format!("activeDeadlineSeconds in {controller} is not Supported"));
    }
}

/// The parts of an object whose rules are due: those that are new or changed. A write of the status leaves the spec
/// as it was accepted, and the other way round.
pub struct Parts<'a> {
    pub spec: Option<At<'a>>,
    pub old_spec: Option<At<'a>>,
    pub status: Option<At<'a>>,
    pub old_status: Option<At<'a>>,
}

impl<'a> Parts<'a> {
    pub fn of(new: &'a serde_json::Value, old: Option<&'a serde_json::Value>) -> Self {
        let part = |name: &str| {
            let value = At::root(new).field(name);
            let before = old.map(|old| At::root(old).field(name));
            let due = before.as_ref().is_none_or(|before| before.value != value.value);
            (due.then_some(value), before)
        };
        let (spec, old_spec) = part("spec");
        let (status, old_status) = part("status");
        Self { spec, old_spec, status: status.filter(|_| old.is_some()), old_status }
    }

    /// A field of the spec that stays as it was made.
    pub fn keeps(&self, fields: &[&str], errors: &mut FieldErrors) {
        if let (Some(spec), Some(old)) = (&self.spec, &self.old_spec) {
            for field in fields {
                immutable(&spec.field(field), &old.field(field), errors);
            }
        }
    }
}

/// `replicas` and `minReadySeconds`.
pub fn replica_counts(spec: &At, errors: &mut FieldErrors) {
    nonnegative(&spec.field("replicas"), errors);
    nonnegative(&spec.field("minReadySeconds"), errors);
}

/// The counts in a status, against each other.
pub fn replica_status(status: &At, counts: &[&str], errors: &mut FieldErrors) {
    nonnegative_fields(status, &["replicas", "observedGeneration", "terminatingReplicas"], errors);
    nonnegative_fields(status, counts, errors);
    counts_within(status, counts, "replicas", "status.replicas", errors);
    counts_within(status, &["availableReplicas"], "readyReplicas", "readyReplicas", errors);
}
