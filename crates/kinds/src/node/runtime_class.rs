//! `RuntimeClass` (node.k8s.io/v1): a named way to run a pod's containers.

use crate::columns::{age, column, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static RUNTIME_CLASS: Kind = Declaration {
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    group: "node.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.node.v1.RuntimeClass",
    create_on_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Handler", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/handler")), age(o, now)]
}
