//! `DeviceTaintRule` (resource.k8s.io/v1): taints devices that match.

use crate::columns::{age, column, column_of, name, named, since, text};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Subresource};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::names;
use serde_json::Value;
use serde_json::json;

pub static DEVICE_TAINT_RULE: Kind = Declaration {
    kind: "DeviceTaintRule",
    plural: "devicetaintrules",
    singular: "devicetaintrule",
    group: "resource.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.resource.v1.DeviceTaintRule",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    status_keeps_metadata: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    // As upstream keeps it, so that the release before can read it.
    storage_version: Some(("resource.k8s.io", "v1beta2")),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/resource/validation/validation.go: validateDeviceTaint`.
fn validate(rule: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let taint = At::root(rule).fields(&["spec", "taint"]);
    let (key, value) = (taint.field("key"), taint.field("value"));
    key.invalid_each(errors, names::qualified_name(key.text()));
    if !value.is_empty() {
        value.invalid_each(errors, names::label_value(value.text()));
    }
    taint.field("effect").required_one_of(&["NoExecute", "NoSchedule", "None"], errors);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Key", "string", "io.k8s.api.resource.v1.DeviceTaint", "key"),
        column_of("Value", "string", "io.k8s.api.resource.v1.DeviceTaint", "value"),
        column_of("Effect", "string", "io.k8s.api.resource.v1.DeviceTaint", "effect"),
        column_of("TimeAdded", "string", "io.k8s.api.resource.v1.DeviceTaint", "timeAdded"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let added = o.pointer("/spec/taint/timeAdded").filter(|time| !time.is_null());
    let added = added.map_or_else(String::new, |time| since(time, now));
    vec![
        name(o),
        json!(text(o, "/spec/taint/key")),
        json!(text(o, "/spec/taint/value")),
        json!(text(o, "/spec/taint/effect")),
        json!(added),
        age(o, now),
    ]
}
