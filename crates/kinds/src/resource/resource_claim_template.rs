//! `ResourceClaimTemplate` (resource.k8s.io/v1): makes a ResourceClaim for each pod.

use crate::columns::{age, column, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind};
use jiff::Timestamp;
use serde_json::Value;

pub static RESOURCE_CLAIM_TEMPLATE: Kind = Declaration {
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    group: "resource.k8s.io",
    schema: "io.k8s.api.resource.v1.ResourceClaimTemplate",
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns { head: &[named("Name", 0), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), age(o, now)]
}
