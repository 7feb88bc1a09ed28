//! `Event` (events.k8s.io/v1): something that happened to an object; lives an hour.

use crate::columns::{column_of, name, named, number, since, text, wide, wide_of};
use crate::kind::{BuiltInColumns, Conversion, Declaration, Kind, Str};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static EVENT: Kind = Declaration {
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &[Str::Borrowed("ev")],
    group: "events.k8s.io",
    schema: "io.k8s.api.events.v1.Event",
    fields: &[
        Str::Borrowed("regarding.kind"),
        Str::Borrowed("regarding.namespace"),
        Str::Borrowed("regarding.name"),
        Str::Borrowed("regarding.uid"),
        Str::Borrowed("regarding.apiVersion"),
        Str::Borrowed("regarding.resourceVersion"),
        Str::Borrowed("regarding.fieldPath"),
        Str::Borrowed("reason"),
        Str::Borrowed("reportingController"),
        Str::Borrowed("type"),
    ],
    ttl_seconds: Some(3600),
    storage_version: Some(("", "v1")),
    conversion: Some(Conversion { to_storage: to_core, from_storage: from_core }),
    unconditional_update: true,
    create_on_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// The rules are about the form in which the event is kept.
fn validate(event: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let kept = |event: &Value| {
        let mut event = event.clone();
        to_core(&mut event);
        event
    };
    let (event, old) = (kept(event), old.map(kept));
    super::rules::lenient(&event, "reportingController", errors);
    super::rules::strict(&event, old.as_ref(), errors);
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
    let first = match o.pointer("/deprecatedFirstTimestamp").filter(|time| !time.is_null()) {
        Some(time) => since(time, now),
        None => since(&o["eventTime"], now),
    };
    let last = match (o.pointer("/series/lastObservedTime"), o.pointer("/deprecatedLastTimestamp")) {
        (Some(time), _) => since(time, now),
        (None, Some(time)) if !time.is_null() => since(time, now),
        (None, _) => first.clone(),
    };
    let count = match (o.pointer("/series/count").and_then(Value::as_i64), number(o, "/deprecatedCount")) {
        (Some(count), _) => count,
        (None, 0) => 1,
        (None, count) => count,
    };
    let kind = text(o, "/regarding/kind").to_lowercase();
    let target = match text(o, "/regarding/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let either = |one: &str, other: &str| match text(o, one) {
        "" => text(o, other).to_owned(),
        found => found.to_owned(),
    };
    let source = match (
        either("/deprecatedSource/component", "/reportingController"),
        either("/deprecatedSource/host", "/reportingInstance"),
    ) {
        (component, host) if host.is_empty() => component,
        (component, host) => format!("{component}, {host}"),
    };
    vec![
        json!(last),
        json!(text(o, "/type")),
        json!(text(o, "/reason")),
        json!(target),
        json!(text(o, "/regarding/fieldPath")),
        json!(source),
        json!(text(o, "/note").trim()),
        json!(first),
        json!(count),
        name(o),
    ]
}

/// This version's names of fields, and the core version's.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// `kubernetes/kubernetes pkg/apis/events/v1/conversion.go`: both versions are one stored object.
fn to_core(event: &mut Value) {
    rename(event, RENAMED);
}

fn from_core(event: &mut Value) {
    rename(event, RENAMED.map(|(here, core)| (core, here)));
}

fn rename(event: &mut Value, names: [(&str, &str); 7]) {
    let Some(fields) = event.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_one_object() {
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "M",
            "regarding": {"kind": "Pod", "name": "x"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "c.io/x", "reportingInstance": "i",
        });
        EVENT.default(&mut event);
        let written = event.clone();
        EVENT.to_storage(&mut event);
        assert_eq!(event["apiVersion"], "v1");
        assert_eq!(event["involvedObject"]["name"], "x");
        assert_eq!(event["reportingComponent"], "c.io/x");
        assert_eq!(event["firstTimestamp"], Value::Null);
        EVENT.from_storage(&mut event);
        assert_eq!(event, written);
    }
}
