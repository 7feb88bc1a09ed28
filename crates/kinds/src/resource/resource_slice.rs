//! `ResourceSlice` (resource.k8s.io/v1): devices of a driver, on a node or in a pool.

use crate::columns::{age, column, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static RESOURCE_SLICE: Kind = Declaration {
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    group: "resource.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.resource.v1.ResourceSlice",
    generation: Generation::OfSpec,
    fields: &[Str::Borrowed("spec.nodeName"), Str::Borrowed("spec.driver"), Str::Borrowed("spec.pool.name")],
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Node", "string"),
        column("Driver", "string"),
        column("Pool", "string"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(text(o, "/spec/nodeName")),
        json!(text(o, "/spec/driver")),
        json!(text(o, "/spec/pool/name")),
        age(o, now),
    ]
}
