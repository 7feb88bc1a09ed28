//! `DeviceClass` (resource.k8s.io/v1): a named choice of devices.

use crate::columns::{age, column, name, named};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, NameRule, Scope};
use jiff::Timestamp;
use serde_json::Value;

pub static DEVICE_CLASS: Kind = Declaration {
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    group: "resource.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.resource.v1.DeviceClass",
    generation: Generation::OfSpec,
    unconditional_update: true,
    columns: Some(COLUMNS),
    name_rule: NameRule::LongName,
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns { head: &[named("Name", 0), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), age(o, now)]
}
