//! `PodDisruptionBudget` (policy/v1): how many pods of a set may be evicted at a time.

use crate::columns::{age, column, name, named, number, shown};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static POD_DISRUPTION_BUDGET: Kind = Declaration {
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short: &[Str::Borrowed("pdb")],
    group: "policy",
    schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Min Available", "string"),
        column("Max Unavailable", "string"),
        column("Allowed Disruptions", "integer"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let or_na = |pointer: &str| match o.pointer(pointer).filter(|value| !value.is_null()) {
        Some(value) => json!(shown(value)),
        None => json!("N/A"),
    };
    vec![
        name(o),
        or_na("/spec/minAvailable"),
        or_na("/spec/maxUnavailable"),
        json!(number(o, "/status/disruptionsAllowed")),
        age(o, now),
    ]
}
