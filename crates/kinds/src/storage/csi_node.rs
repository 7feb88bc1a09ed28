//! `CSINode` (storage.k8s.io/v1): the volume drivers a node has.

use crate::columns::{age, column, count, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static CSI_NODE: Kind = Declaration {
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.CSINode",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Drivers", "integer"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/spec/drivers")), age(o, now)]
}
