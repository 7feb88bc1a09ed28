//! `DeviceTaintRule` (resource.k8s.io/v1): taints devices that match.

use crate::columns::{age, column, name, named, since, text};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Subresource};
use jiff::Timestamp;
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
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Key", "string"),
        column("Value", "string"),
        column("Effect", "string"),
        column("TimeAdded", "string"),
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
