//! What autoscalers may ask for.
//!
//! `kubernetes/kubernetes pkg/apis/autoscaling/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use serde_json::Value;

use crate::validate::resources::{amount, container_resource_name};
use crate::validate::template::Parts;
use crate::validate::{At, nonnegative, nonnegative_fields, positive};

const PERIOD_SECONDS_MAX: i64 = 1800;
const WINDOW_SECONDS_MAX: i64 = 3600;
/// The sources of a metric: the type, and the field that tells of it, in the order they are looked at.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// Failures name the place in v2, which is the form that upstream checks.
pub fn v1(autoscaler: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    both(autoscaler, old, errors);
    let percent = At::root(autoscaler).fields(&["spec", "targetCPUUtilizationPercentage"]);
    let target = Path::new("spec").child("metrics").index(0).child("resource").child("target");
    if percent.is_set() && percent.int() < 1 {
        percent.reported_at(target.child("averageUtilization")).invalid(errors, "must be greater than 0");
    }
}

fn both(autoscaler: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(autoscaler, old);
    if let Some(spec) = &parts.spec {
        replicas(spec, errors);
        reference(&spec.field("scaleTargetRef"), false, errors);
    }
    if let Some(status) = &parts.status {
        nonnegative_fields(status, &["currentReplicas", "desiredReplicas"], errors);
    }
}

pub fn v2(autoscaler: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    both(autoscaler, old, errors);
    let parts = Parts::of(autoscaler, old);
    let Some(spec) = &parts.spec else { return };
    let metrics = spec.field("metrics");
    metrics.items().for_each(|at| metric(&at, errors));
    let least = spec.field("minReplicas");
    let scalable_to_zero = metrics.items().any(|metric| ["Object", "External"].contains(&metric.field("type").text()));
    if least.is_set() && least.int() == 0 && !scalable_to_zero {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        metrics.forbidden(errors, detail);
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec.field("behavior").set(direction) {
            scaling_rules(&rules, errors);
        }
    }
}

fn replicas(spec: &At, errors: &mut FieldErrors) {
    let (least, most) = (spec.field("minReplicas"), spec.field("maxReplicas"));
    nonnegative(&least, errors);
    if most.int() == 0 {
        most.required(errors, "");
    } else if most.int() < 0 {
        most.invalid(errors, "must be greater than or equal to 1");
    }
    if least.is_set() && most.int() < least.int() {
        errors.push(FieldError::invalid(&most.path, most.int(), "must be greater than or equal to `minReplicas`"));
    }
}

/// A reference to an object, of the core group only where `core` says so.
fn reference(at: &At, core: bool, errors: &mut FieldErrors) {
    for field in ["kind", "name"].map(|name| at.field(name)) {
        if field.must_be_set(errors) {
            field.invalid_each(errors, names::path_segment(field.text(), false));
        }
    }
    let version = at.field("apiVersion");
    let detail = match version.text().matches('/').count() {
        0 if core || at.field("kind").is("ReplicationController") && version.is("v1") => return,
        0 => "apiVersion must specify API group".to_owned(),
        1 => return,
        _ => format!("unexpected GroupVersion string: {}", version.text()),
    };
    errors.push(FieldError::invalid(&version.path, version.text(), detail));
}

fn metric(at: &At, errors: &mut FieldErrors) {
    let of = at.field("type");
    let known = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    if of.is_empty() {
        of.required(errors, "must specify a metric source type");
    }
    of.one_of(&known, errors);
    let present: Vec<&str> = SOURCES.iter().map(|(_, field)| *field).filter(|field| at.field(field).is_set()).collect();
    if let Some(first) = present.first() {
        let source = at.field(first);
        match *first {
            "object" => object(&source, errors),
            "external" => external(&source, errors),
            "pods" => pods(&source, errors),
            _ => resource(&source, *first == "containerResource", errors),
        }
    }
    let expected = SOURCES.iter().find(|(name, _)| of.is(name)).map(|(_, field)| *field);
    if let Some(expected) = expected.filter(|expected| !present.contains(expected)) {
        at.field(expected).required(errors, "must populate information for the given metric source");
    }
    if present.len() != 1 {
        for other in present.iter().filter(|field| Some(**field) != expected) {
            at.field(other).forbidden(errors, "must populate the given metric source only");
        }
    }
}

fn identifier(at: &At, errors: &mut FieldErrors) {
    let name = at.field("name");
    if name.is_empty() {
        return name.required(errors, "must specify a metric name");
    }
    name.invalid_each(errors, names::path_segment(name.text(), false));
}

fn target(at: &At, errors: &mut FieldErrors) {
    let of = at.field("type");
    if of.is_empty() {
        of.required(errors, "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&of.text()) {
        errors.push(FieldError::invalid(&of.path, of.text(), "must be either Utilization, Value, or AverageValue"));
    }
    for value in ["value", "averageValue"].map(|name| at.field(name)) {
        if value.is_set() && amount(value.value).sign() <= 0 {
            value.invalid(errors, "must be positive");
        }
    }
    let utilization = at.field("averageUtilization");
    if utilization.is_set() && utilization.int() < 1 {
        utilization.invalid(errors, "must be greater than 0");
    }
}

fn object(at: &At, errors: &mut FieldErrors) {
    reference(&at.field("describedObject"), true, errors);
    identifier(&at.field("metric"), errors);
    let aim = at.field("target");
    target(&aim, errors);
    if !aim.field("value").is_set() && !aim.field("averageValue").is_set() {
        aim.field("averageValue").required(errors, "must set either a target value or averageValue");
    }
}

fn external(at: &At, errors: &mut FieldErrors) {
    identifier(&at.field("metric"), errors);
    let aim = at.field("target");
    target(&aim, errors);
    match (aim.field("value").is_set(), aim.field("averageValue").is_set()) {
        (false, false) => {
            let detail = "must set either a target value for metric or a per-pod target";
            aim.field("averageValue").required(errors, detail);
        }
        (true, true) => {
            let detail = "may not set both a target value for metric and a per-pod target";
            aim.field("value").forbidden(errors, detail);
        }
        _ => {}
    }
}

fn pods(at: &At, errors: &mut FieldErrors) {
    identifier(&at.field("metric"), errors);
    let aim = at.field("target");
    target(&aim, errors);
    if !aim.field("averageValue").is_set() {
        aim.field("averageValue").required(errors, "must specify a positive target averageValue");
    }
}

fn resource(at: &At, of_container: bool, errors: &mut FieldErrors) {
    let (name, container, aim) = (at.field("name"), at.field("container"), at.field("target"));
    if name.is_empty() {
        name.required(errors, "must specify a resource name");
    } else if of_container {
        container_resource_name(name.text(), &name, errors);
    }
    if of_container {
        if container.is_empty() {
            container.required(errors, "must specify a container");
        } else {
            container.invalid_each(errors, names::dns1123_label(container.text()));
        }
    }
    target(&aim, errors);
    match (aim.field("averageUtilization").is_set(), aim.field("averageValue").is_set()) {
        (false, false) => {
            let detail = "must set either a target raw value or a target utilization";
            aim.field("averageUtilization").required(errors, detail);
        }
        (true, true) => {
            let detail = "may not set both a target raw value and a target utilization";
            aim.field("averageValue").forbidden(errors, detail);
        }
        _ => {}
    }
}

fn scaling_rules(at: &At, errors: &mut FieldErrors) {
    let (window, policies) = (at.field("stabilizationWindowSeconds"), at.field("policies"));
    if window.int() < 0 {
        window.invalid(errors, "must be greater than or equal to zero");
    } else if window.int() > WINDOW_SECONDS_MAX {
        window.invalid(errors, format!("must be less than or equal to {WINDOW_SECONDS_MAX}"));
    }
    at.field("selectPolicy").optional_one_of(&["Disabled", "Max", "Min"], errors);
    if policies.is_empty() {
        policies.required(errors, "must specify at least one Policy");
    }
    for policy in policies.items() {
        policy.field("type").one_of(&["Percent", "Pods"], errors);
        positive(&policy.field("value"), errors);
        let period = policy.field("periodSeconds");
        positive(&period, errors);
        if period.int() > PERIOD_SECONDS_MAX {
            period.invalid(errors, format!("must be less than or equal to {PERIOD_SECONDS_MAX}"));
        }
    }
}
