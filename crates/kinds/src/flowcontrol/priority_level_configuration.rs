//! `PriorityLevelConfiguration` (flowcontrol.apiserver.k8s.io/v1): the share of the API server a class of requests gets.

use crate::columns::{age, column, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Declaration {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
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
        column("Type", "string"),
        column("NominalConcurrencyShares", "string"),
        column("Queues", "string"),
        column("HandSize", "string"),
        column("QueueLengthLimit", "string"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let limited = |pointer: &str| match o.pointer(pointer).filter(|value| !value.is_null()) {
        Some(value) => value.clone(),
        None => json!("<none>"),
    };
    vec![
        name(o),
        json!(text(o, "/spec/type")),
        limited("/spec/limited/nominalConcurrencyShares"),
        limited("/spec/limited/limitResponse/queuing/queues"),
        limited("/spec/limited/limitResponse/queuing/handSize"),
        limited("/spec/limited/limitResponse/queuing/queueLengthLimit"),
        age(o, now),
    ]
}
