//! `Job` (batch/v1): pods that run to completion.

use super::validate;
use crate::columns::{
    age, column, column_of, condition, container_images, container_names, human_duration, instant, label_selector,
    name, named, number, wide, wide_of,
};
use crate::defaults::{is_missing, nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str, Subresource};
use crate::validate::nonnegative_fields;
use crate::validate::template::Parts;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use machinery::object;
use serde_json::{Value, json};

pub static JOB: Kind = Declaration {
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &[Str::Borrowed("all")],
    group: "batch",
    schema: "io.k8s.api.batch.v1.Job",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    fields: &[Str::Borrowed("status.successful")],
    fields_elsewhere: &[("status.successful", &["status.succeeded"])],
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    on_create: Some(generate_selector),
    columns: Some(COLUMNS),
    validate: Some(validate),
    warnings: Some(crate::validate::template::warnings),
    ..Declaration::NEW
}
.build();

fn validate(job: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(job, old);
    if let Some(spec) = &parts.spec {
        validate::job_with_selector(spec, errors);
        let completions = spec.field("completions");
        if spec.field("completionMode").is("Indexed") && completions.int() > 0 {
            let host = format!("{}-{}", object::name(job), completions.int() - 1);
            if !names::dns1123_label(&host).is_empty() {
                let path = Path::new("metadata").child("name");
                let detail = format!("will not able to create pod with invalid DNS label: {host}");
                errors.push(FieldError::invalid(&path, object::name(job), detail));
            }
        }
        let (selector, uid) = (spec.field("selector"), object::uid(job));
        let generated = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
        if old.is_none() && !spec.field("manualSelector").flag() && *selector.value != generated {
            selector.invalid(errors, "`selector` not auto-generated");
        }
        if let Some(old) = &parts.old_spec {
            validate::job_update(spec, old, errors);
        }
    }
    parts.keeps(&["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"], errors);
    if let Some(status) = &parts.status {
        nonnegative_fields(status, &["active", "succeeded", "failed", "ready", "terminating"], errors);
    }
}

fn defaults(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].as_object().cloned();
    let Some(fields) = job.as_object_mut() else { return };
    if let Some(spec) = nested(fields, "spec") {
        if is_missing(spec, "completions") && is_missing(spec, "parallelism") {
            set_missing(spec, "completions", 1);
        }
        set_missing(spec, "parallelism", 1);
        let back_off = if is_missing(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
        set_missing(spec, "backoffLimit", back_off);
        set_missing(spec, "completionMode", "NonIndexed");
        set_missing(spec, "suspend", false);
        let replacement = if is_missing(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
        set_missing(spec, "podReplacementPolicy", replacement);
        set_missing(spec, "manualSelector", false);
    }
    if let (Some(labels), Some(metadata)) = (labels, nested(fields, "metadata")) {
        set_unset(metadata, "labels", labels);
    }
}

/// `kubernetes/kubernetes pkg/registry/batch/job/strategy.go`: unless it is told not to, a job selects its pods by its
/// own uid, which nobody else's pods carry.
fn generate_selector(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (object::uid(job).to_owned(), object::name(job).to_owned());
    let labels = object::at(job, &["spec", "template", "metadata", "labels"]).and_then(Value::as_object).cloned();
    let mut labels = labels.unwrap_or_default();
    // Labels that were taken over from the template stay the template's.
    let shared = !labels.is_empty() && object::labels(job) == Some(&labels);
    for (key, value) in [
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        labels.insert(key.to_owned(), json!(value));
    }
    if shared {
        object::put(job, &["metadata", "labels"], Value::Object(labels.clone()));
    }
    object::put(job, &["spec", "template", "metadata", "labels"], Value::Object(labels));
    object::put(job, &["spec", "selector", "matchLabels", "batch.kubernetes.io/controller-uid"], json!(uid));
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Status", "string"),
        column_of("Completions", "string", "io.k8s.api.batch.v1.JobStatus", "succeeded"),
        column("Duration", "string"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide_of("Selector", "string", "io.k8s.api.batch.v1.JobSpec", "selector"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(status(o)),
        json!(completions(o)),
        json!(duration(o, now)),
        age(o, now),
        container_names(o, "/spec/template/spec/containers"),
        container_images(o, "/spec/template/spec/containers"),
        label_selector(o, "/spec/selector"),
    ]
}

fn met(o: &Value, of: &str) -> bool {
    condition(o, of).is_some_and(|condition| condition["status"] == "True")
}

fn status(o: &Value) -> &'static str {
    let deleted = o.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    match () {
        () if met(o, "Complete") => "Complete",
        () if met(o, "Failed") => "Failed",
        () if deleted => "Terminating",
        () if met(o, "Suspended") => "Suspended",
        () if met(o, "FailureTarget") => "FailureTarget",
        () if met(o, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(o: &Value) -> String {
    let succeeded = number(o, "/status/succeeded");
    match (o.pointer("/spec/completions").and_then(Value::as_i64), number(o, "/spec/parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(o: &Value, now: Timestamp) -> String {
    let Some(start) = instant(&o["status"]["startTime"]) else { return String::new() };
    let end = instant(&o["status"]["completionTime"]).unwrap_or(now);
    human_duration(end.as_second() - start.as_second())
}
