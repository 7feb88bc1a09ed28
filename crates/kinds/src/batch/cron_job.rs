//! `CronJob` (batch/v1): a Job at set times.

use crate::columns::{
    age, column, container_images, container_names, count, label_selector, name, named, since, text, text_or, wide,
};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str, Subresource};
use jiff::Timestamp;
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
    ..Declaration::NEW
}
.build();

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
        column("Schedule", "string"),
        column("Timezone", "string"),
        column("Suspend", "boolean"),
        column("Active", "integer"),
        column("Last Schedule", "string"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide("Selector", "string"),
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
