//! `ComponentStatus` (v1): the old health listing of control plane components; read only, never stored.

use crate::columns::{column, list, name, named, text};
use crate::kind::{BuiltInColumns, Computed, Declaration, Kind, Scope, Str, Verbs};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static COMPONENT_STATUS: Kind = Declaration {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short: &[Str::Borrowed("cs")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.ComponentStatus",
    verbs: Verbs::GET.and(Verbs::LIST),
    computed: Some(Computed::ComponentStatuses),
    columns: Some(COLUMNS),
    deprecation: "v1 ComponentStatus is deprecated in v1.19+",
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Status", "string"), column("Message", "string"), column("Error", "string")],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    let nothing = Value::Null;
    let healthy = list(o, "/conditions").iter().find(|condition| condition["type"] == "Healthy").unwrap_or(&nothing);
    let status = match text(healthy, "/status") {
        "True" => "Healthy",
        _ if healthy.is_null() => "Unknown",
        _ => "Unhealthy",
    };
    vec![name(o), json!(status), json!(text(healthy, "/message")), json!(text(healthy, "/error"))]
}
