//! `FlowSchema` (flowcontrol.apiserver.k8s.io/v1): which requests belong to which priority level.

use crate::columns::{age, column, condition, name, named, number, text, text_or};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static FLOW_SCHEMA: Kind = Declaration {
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.flowcontrol.v1.FlowSchema",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("PriorityLevel", "string"),
        column("MatchingPrecedence", "string"),
        column("DistinguisherMethod", "string"),
        column("Age", "string"),
        column("MissingPL", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let dangling = condition(o, "Dangling").map_or("?", |condition| text(condition, "/status"));
    vec![
        name(o),
        json!(text(o, "/spec/priorityLevelConfiguration/name")),
        json!(number(o, "/spec/matchingPrecedence")),
        text_or(o, "/spec/distinguisherMethod/type", "<none>"),
        age(o, now),
        json!(dangling),
    ]
}
