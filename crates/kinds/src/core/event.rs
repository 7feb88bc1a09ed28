//! `Event` (v1): something that happened to an object; lives an hour.

use crate::columns::{column_of, name, named, number, since, text, wide, wide_of};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Str};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static EVENT: Kind = Declaration {
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &[Str::Borrowed("ev")],
    schema: "io.k8s.api.core.v1.Event",
    fields: &[
        Str::Borrowed("involvedObject.kind"),
        Str::Borrowed("involvedObject.namespace"),
        Str::Borrowed("involvedObject.name"),
        Str::Borrowed("involvedObject.uid"),
        Str::Borrowed("involvedObject.apiVersion"),
        Str::Borrowed("involvedObject.resourceVersion"),
        Str::Borrowed("involvedObject.fieldPath"),
        Str::Borrowed("reason"),
        Str::Borrowed("reportingComponent"),
        Str::Borrowed("source"),
        Str::Borrowed("type"),
    ],
    fields_elsewhere: &[("source", &["source.component", "reportingComponent"])],
    ttl_seconds: Some(3600),
    unconditional_update: true,
    create_on_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    name_rule: NameRule::PathSegment,
    ..Declaration::NEW
}
.build();

fn validate(event: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    crate::events::rules::lenient(event, "reportingComponent", errors);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        column_of("Last Seen", "string", "io.k8s.api.core.v1.Event", "lastTimestamp"),
        column_of("Type", "string", "io.k8s.api.core.v1.Event", "type"),
        column_of("Reason", "string", "io.k8s.api.core.v1.Event", "reason"),
        column_of("Object", "string", "io.k8s.api.core.v1.Event", "involvedObject"),
        wide("Subobject", "string"),
        wide_of("Source", "string", "io.k8s.api.core.v1.Event", "source"),
        column_of("Message", "string", "io.k8s.api.core.v1.Event", "message"),
        wide_of("First Seen", "string", "io.k8s.api.core.v1.Event", "firstTimestamp"),
        wide_of("Count", "string", "io.k8s.api.core.v1.Event", "count"),
        named("Name", 1),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let first = match o.pointer("/firstTimestamp").filter(|time| !time.is_null()) {
        Some(time) => since(time, now),
        None => since(&o["eventTime"], now),
    };
    let last = match (o.pointer("/series/lastObservedTime"), o.pointer("/lastTimestamp")) {
        (Some(time), _) => since(time, now),
        (None, Some(time)) if !time.is_null() => since(time, now),
        (None, _) => first.clone(),
    };
    let count = match (o.pointer("/series/count").and_then(Value::as_i64), number(o, "/count")) {
        (Some(count), _) => count,
        (None, 0) => 1,
        (None, count) => count,
    };
    let kind = text(o, "/involvedObject/kind").to_lowercase();
    let target = match text(o, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let either = |one: &str, other: &str| match text(o, one) {
        "" => text(o, other).to_owned(),
        found => found.to_owned(),
    };
    let source =
        match (either("/source/component", "/reportingComponent"), either("/source/host", "/reportingInstance")) {
            (component, host) if host.is_empty() => component,
            (component, host) => format!("{component}, {host}"),
        };
    vec![
        json!(last),
        json!(text(o, "/type")),
        json!(text(o, "/reason")),
        json!(target),
        json!(text(o, "/involvedObject/fieldPath")),
        json!(source),
        json!(text(o, "/message").trim()),
        json!(first),
        json!(count),
        name(o),
    ]
}
