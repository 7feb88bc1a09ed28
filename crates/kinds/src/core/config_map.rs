//! `ConfigMap` (v1): plain configuration for pods.

use crate::columns::{age, column, count, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static CONFIG_MAP: Kind = Declaration {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short: &[Str::Borrowed("cm")],
    schema: "io.k8s.api.core.v1.ConfigMap",
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Data", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/data") + count(o, "/binaryData")), age(o, now)]
}
