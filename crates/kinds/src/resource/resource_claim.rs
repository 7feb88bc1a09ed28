//! `ResourceClaim` (resource.k8s.io/v1): a claim of devices for pods.

use crate::columns::{age, column, count, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static RESOURCE_CLAIM: Kind = Declaration {
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    group: "resource.k8s.io",
    schema: "io.k8s.api.resource.v1.ResourceClaim",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("State", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(state(o)), age(o, now)]
}

fn state(o: &Value) -> String {
    let deleted = o.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    let allocated = o.pointer("/status/allocation").is_some_and(|allocation| !allocation.is_null());
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    match (allocated, deleted) {
        (false, false) => states.push("pending"),
        (false, true) => {}
        (true, _) => {
            states.push("allocated");
            if count(o, "/status/reservedFor") > 0 {
                states.push("reserved");
            }
        }
    }
    states.join(",")
}
