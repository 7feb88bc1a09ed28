//! `PriorityClass` (scheduling.k8s.io/v1): a named scheduling priority.

use crate::columns::{age, column, flag_or, name, named, number, text};
use crate::defaults::set_missing;
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static PRIORITY_CLASS: Kind = Declaration {
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short: &[Str::Borrowed("pc")],
    group: "scheduling.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.scheduling.v1.PriorityClass",
    generation: Generation::Initial,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

fn defaults(class: &mut Value) {
    if let Some(fields) = class.as_object_mut() {
        set_missing(fields, "preemptionPolicy", "PreemptLowerPriority");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Value", "integer"),
        column("Global-Default", "boolean"),
        column("Age", "string"),
        column("PreemptionPolicy", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(number(o, "/value")),
        json!(flag_or(o, "/globalDefault", false)),
        age(o, now),
        json!(text(o, "/preemptionPolicy")),
    ]
}
