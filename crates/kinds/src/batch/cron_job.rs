//! `CronJob` (batch/v1): a Job at set times.

use super::cron;
use super::validate::job_template;
use crate::columns::{
    age, column, column_of, container_images, container_names, count, label_selector, name, named, since, text,
    text_or, wide, wide_of,
};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str, Subresource};
use crate::validate::template::Parts;
use crate::validate::{At, nonnegative, nonnegative_fields};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::{names, object};
use serde_json::Value;
use serde_json::json;

pub static CRON_JOB: Kind = Declaration {
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short: &[Str::Borrowed("cj")],
    categories: &[Str::Borrowed("all")],
    group: "batch",
    schema: "io.k8s.api.batch.v1.CronJob",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(job: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(job, old);
    if let Some(spec) = &parts.spec {
        let schedule = spec.field("schedule");
        if schedule.must_be_set(errors) {
            if let Some(complaint) = cron::complaint(schedule.text()) {
                schedule.invalid(errors, complaint);
            }
            if schedule.text().contains("TZ") {
                schedule.invalid(errors, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
            }
        }
        nonnegative(&spec.field("startingDeadlineSeconds"), errors);
        if let Some(zone) = spec.set("timeZone") {
            time_zone(&zone, errors);
        }
        spec.field("concurrencyPolicy").required_one_of(&["Allow", "Forbid", "Replace"], errors);
        job_template(&spec.field("jobTemplate"), errors);
        nonnegative_fields(spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], errors);
    }
    if old.is_none() && object::name(job).len() > NAME_BYTES_MAX {
        let name = At::root(job).fields(&["metadata", "name"]);
        name.invalid(errors, "must be no more than 52 characters");
    }
}

/// A job's name is its own and eleven characters for the time.
const NAME_BYTES_MAX: usize = names::DNS_LABEL_MAX - 11;

fn time_zone(zone: &At, errors: &mut FieldErrors) {
    let name = zone.text();
    if name.is_empty() {
        return zone.invalid(errors, "timeZone must be nil or non-empty string");
    }
    let part_is_valid = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+');
        part != "."
            && part != ".."
            && !part.starts_with('-')
            && (1..=14).contains(&part.len())
            && part.bytes().all(known)
    };
    if !name.split('/').all(part_is_valid) {
        return zone.invalid(errors, format!("unknown time zone {name}"));
    }
    if name.eq_ignore_ascii_case("local") {
        zone.invalid(errors, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    } else if jiff::tz::TimeZone::get(name).is_err() {
        zone.invalid(errors, format!("unknown time zone {name}"));
    }
}

fn defaults(job: &mut Value) {
    let Some(spec) = job.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_unset(spec, "concurrencyPolicy", "Allow");
    set_missing(spec, "suspend", false);
    set_missing(spec, "successfulJobsHistoryLimit", 3);
    set_missing(spec, "failedJobsHistoryLimit", 1);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Schedule", "string", "io.k8s.api.batch.v1.CronJobSpec", "schedule"),
        column_of("Timezone", "string", "io.k8s.api.batch.v1.CronJobSpec", "timeZone"),
        column_of("Suspend", "boolean", "io.k8s.api.batch.v1.CronJobSpec", "suspend"),
        column_of("Active", "integer", "io.k8s.api.batch.v1.CronJobStatus", "active"),
        column_of("Last Schedule", "string", "io.k8s.api.batch.v1.CronJobStatus", "lastScheduleTime"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide_of("Selector", "string", "io.k8s.api.batch.v1.JobSpec", "selector"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let last = match o.pointer("/status/lastScheduleTime").filter(|time| !time.is_null()) {
        Some(time) => since(time, now),
        None => "<none>".to_owned(),
    };
    let suspended = match o.pointer("/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        name(o),
        json!(text(o, "/spec/schedule")),
        text_or(o, "/spec/timeZone", "<none>"),
        json!(suspended),
        json!(count(o, "/status/active")),
        json!(last),
        age(o, now),
        container_names(o, "/spec/jobTemplate/spec/template/spec/containers"),
        container_images(o, "/spec/jobTemplate/spec/template/spec/containers"),
        label_selector(o, "/spec/jobTemplate/spec/selector"),
    ]
}
