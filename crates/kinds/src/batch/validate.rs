//! What a job asks for, in a Job and in a CronJob's template.
//!
//! `kubernetes/kubernetes pkg/apis/batch/validation/validation.go`: the rules.

use machinery::field::{BadValue, FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;

use crate::prepare::set_or_remove;
use crate::validate::selector::{label_selector, selects};
use crate::validate::template::{does_not_match, pod_template};
use crate::validate::{At, immutable, nonnegative, nonnegative_fields, shown};

const MANAGED_BY_BYTES_MAX: usize = 63;
const INDEXED_MAX: i64 = 100_000;
const FAILURE_RULES_MAX: usize = 20;
const SUCCESS_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];

/// A Job's `spec`, its selector generated.
pub fn job_with_selector(spec: &At, errors: &mut FieldErrors) {
    job(spec, errors);
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    if selector.is_set() {
        label_selector(&selector, errors);
    } else {
        selector.required(errors, "");
    }
    if selects(&selector, template.fields(&["metadata", "labels"]).value) == Some(false) {
        does_not_match(&template, errors);
    }
}

/// A CronJob's `jobTemplate`.
pub fn job_template(template: &At, errors: &mut FieldErrors) {
    let spec = template.field("spec");
    job(&spec, errors);
    if let Some(selector) = spec.set("selector") {
        errors.push(FieldError::invalid(&selector.path, selector.value, "`selector` will be auto-generated"));
    }
    let manual = spec.field("manualSelector");
    if manual.flag() {
        errors.push(FieldError::not_supported(&manual.path, true, &["nil", "false"]));
    }
}

fn job(spec: &At, errors: &mut FieldErrors) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    nonnegative_fields(spec, &counts, errors);
    let per_index = spec.field("backoffLimitPerIndex");
    if spec.field("maxFailedIndexes").is_set() && !per_index.is_set() {
        per_index.required(errors, "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.set("managedBy") {
        errors.extend(names::domain_prefixed_path(&manager.path, manager.text()));
        if manager.text().len() > MANAGED_BY_BYTES_MAX {
            errors.push(FieldError::too_long(&manager.path, MANAGED_BY_BYTES_MAX));
        }
    }
    completion_mode(spec, errors);
    if let Some(policy) = spec.set("podFailurePolicy") {
        failure_policy(&policy, spec, errors);
    }
    if let Some(policy) = spec.set("successPolicy") {
        success_policy(&policy, spec, errors);
    }
    let replacement = spec.field("podReplacementPolicy");
    let policies: &[&str] =
        if spec.field("podFailurePolicy").is_set() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    replacement.optional_one_of(policies, errors);
    let template = spec.field("template");
    pod_template(&template, errors);
    let restart = template.fields(&["spec", "restartPolicy"]);
    match restart.text() {
        "Always" | "" => restart.required(errors, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if spec.field("podFailurePolicy").is_set() => {
            restart.invalid(errors, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        _ => {
            restart.one_of(&["OnFailure", "Never"], errors);
        }
    }
}

fn completion_mode(spec: &At, errors: &mut FieldErrors) {
    let [mode, completions, parallelism, failed, per_index] =
        ["completionMode", "completions", "parallelism", "maxFailedIndexes", "backoffLimitPerIndex"]
            .map(|name| spec.field(name));
    mode.optional_one_of(&["NonIndexed", "Indexed"], errors);
    if mode.is("Indexed") {
        if !completions.is_set() {
            completions.required(errors, "when completion mode is Indexed");
        }
        if parallelism.int() > INDEXED_MAX {
            let detail = format!("must be less than or equal to {INDEXED_MAX} when completion mode is Indexed");
            parallelism.invalid(errors, detail);
        }
        if completions.is_set() && failed.is_set() && failed.int() > completions.int() {
            failed.invalid(errors, "must be less than or equal to completions");
        }
        if failed.int() > INDEXED_MAX {
            failed.invalid(errors, format!("must be less than or equal to {INDEXED_MAX}"));
        }
    } else if !mode.is_set() || mode.is("NonIndexed") {
        for field in [per_index, failed].iter().filter(|field| field.is_set()) {
            field.invalid(errors, "requires indexed completion mode");
        }
    }
}

fn quoted(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// A missing text is reported with what it could be.
fn required_one_of(at: &At, values: &[&str], errors: &mut FieldErrors) {
    if at.is_empty() {
        at.required(errors, &quoted(values));
    } else {
        at.one_of(values, errors);
    }
}

fn failure_policy(policy: &At, spec: &At, errors: &mut FieldErrors) {
    let rules = policy.field("rules");
    if rules.count() > FAILURE_RULES_MAX {
        errors.push(FieldError::too_many(&rules.path, rules.count(), FAILURE_RULES_MAX));
    }
    for rule in rules.items() {
        let action = rule.field("action");
        if action.is("FailIndex") {
            if !spec.field("backoffLimitPerIndex").is_set() {
                action.invalid(errors, "requires the backoffLimitPerIndex to be set");
            }
        } else {
            required_one_of(&action, ACTIONS, errors);
        }
        let (codes, conditions) = (rule.field("onExitCodes"), rule.field("onPodConditions"));
        if codes.is_set() {
            exit_codes(&codes, spec, errors);
        }
        pod_conditions(&conditions, errors);
        let detail = match (codes.is_set(), !conditions.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(FieldError::invalid(&rule.path, BadValue::Omitted, detail));
    }
}

fn pod_conditions(conditions: &At, errors: &mut FieldErrors) {
    if conditions.count() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(&conditions.path, conditions.count(), CONDITIONS_MAX));
    }
    for condition in conditions.items() {
        let of = condition.field("type");
        of.invalid_each(errors, names::qualified_name(of.text()));
        required_one_of(&condition.field("status"), &["False", "True", "Unknown"], errors);
    }
}

fn exit_codes(at: &At, spec: &At, errors: &mut FieldErrors) {
    let operator = at.field("operator");
    required_one_of(&operator, &["In", "NotIn"], errors);
    if let Some(name) = at.set("containerName") {
        let lists = ["containers", "initContainers"].map(|list| spec.fields(&["template", "spec", list]));
        if !lists.iter().flat_map(At::items).any(|container| container.field("name").is(name.text())) {
            let detail = "must be one of the container or initContainer names in the pod template";
            name.invalid(errors, detail);
        }
    }
    let values = at.field("values");
    if values.is_empty() {
        errors.push(FieldError::invalid(&values.path, values.shown(), "at least one value is required"));
    } else if values.count() > EXIT_CODES_MAX {
        errors.push(FieldError::too_many(&values.path, values.count(), EXIT_CODES_MAX));
    }
    let mut seen = Vec::new();
    for value in values.items() {
        if operator.is("In") && value.int() == 0 {
            value.invalid(errors, "must not be 0 for the In operator");
        }
        if seen.contains(&value.int()) {
            value.duplicate(errors);
        }
        seen.push(value.int());
    }
    if !seen.is_sorted() {
        values.invalid(errors, "must be ordered");
    }
}

fn success_policy(policy: &At, spec: &At, errors: &mut FieldErrors) {
    let rules = policy.field("rules");
    if !spec.field("completionMode").is("Indexed") {
        let rules: Vec<String> = rules
            .items()
            .map(|rule| {
                let field = |name: &str| rule.field(name).value.clone();
                format!(
                    "{{\"SucceededIndexes\":{},\"SucceededCount\":{}}}",
                    field("succeededIndexes"),
                    field("succeededCount")
                )
            })
            .collect();
        let shown = shown(format!("{{\"Rules\":[{}]}}", rules.join(",")));
        return errors.push(FieldError::invalid(&policy.path, shown, "requires indexed completion mode"));
    }
    if rules.is_empty() {
        rules.required(errors, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.count() > SUCCESS_RULES_MAX {
        errors.push(FieldError::too_many(&rules.path, rules.count(), SUCCESS_RULES_MAX));
    }
    let completions = spec.field("completions").int();
    for rule in rules.items() {
        let (count, indexes) = (rule.field("succeededCount"), rule.field("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            rule.required(errors, "at least one of succeededCount or succeededIndexes must be specified");
        }
        nonnegative(&count, errors);
        if count.int() > completions {
            let detail = format!("must be less than or equal to {completions} (the number of specified completions)");
            count.invalid(errors, detail);
        }
    }
}

/// What an update may change of a job.
pub fn job_update(spec: &At, old: &At, errors: &mut FieldErrors) {
    let (completions, before) = (spec.field("completions"), old.field("completions"));
    let elastic = spec.field("completionMode").is("Indexed")
        && completions.is_set()
        && before.is_set()
        && completions.value == spec.field("parallelism").value;
    if !elastic {
        immutable(&completions, &before, errors);
    }
    immutable(&spec.field("selector"), &old.field("selector"), errors);
    let template = spec.field("template");
    let suspended = old.field("suspend").flag();
    let mut kept = template.value.clone();
    if suspended {
        take_scheduling(&mut kept, old.field("template").value);
    }
    if kept != *old.field("template").value {
        template.invalid(errors, "field is immutable");
    }
}

/// A job that waits may be told where its pods go, and what they need.
fn take_scheduling(kept: &mut Value, old: &Value) {
    let paths: [&[&str]; 6] = [
        &["spec", "affinity", "nodeAffinity"],
        &["spec", "nodeSelector"],
        &["spec", "tolerations"],
        &["spec", "schedulingGates"],
        &["metadata", "annotations"],
        &["metadata", "labels"],
    ];
    for path in paths {
        set_or_remove(kept, path, machinery::object::at(old, path).cloned());
    }
    for list in ["containers", "initContainers"] {
        let before = old["spec"][list].as_array().cloned().unwrap_or_default();
        let containers = kept.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for (container, before) in containers.into_iter().flatten().zip(before) {
            if container["name"] == before["name"] {
                set_or_remove(container, &["resources"], before.get("resources").cloned());
            }
        }
    }
}
