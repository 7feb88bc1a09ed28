//! `VolumeAttributesClass` (storage.k8s.io/v1): changeable attributes of volumes.

use crate::columns::{age, column, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Str};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static VOLUME_ATTRIBUTES_CLASS: Kind = Declaration {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short: &[Str::Borrowed("vac")],
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.VolumeAttributesClass",
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("DriverName", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/driverName")), age(o, now)]
}
