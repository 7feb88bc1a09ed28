//! `ResourceQuota` (v1): what a namespace may use in sum.

use crate::columns::{age, column, map, name, named, shown};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static RESOURCE_QUOTA: Kind = Declaration {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short: &[Str::Borrowed("quota")],
    schema: "io.k8s.api.core.v1.ResourceQuota",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Request", "string"), column("Limit", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(used(o, false)), json!(used(o, true)), age(o, now)]
}

fn used(o: &Value, limits: bool) -> String {
    let entries = map(o, "/status/hard").into_iter().flatten();
    let shown: Vec<String> = entries
        .filter(|(resource, _)| resource.starts_with("limits.") == limits)
        .map(|(resource, hard)| {
            let used = o["status"]["used"].get(resource).map_or_else(|| "0".to_owned(), shown);
            format!("{resource}: {used}/{}", shown(hard))
        })
        .collect();
    shown.join(", ")
}
