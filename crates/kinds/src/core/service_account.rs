//! `ServiceAccount` (v1): an identity for pods.

use crate::columns::{age, column, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;

pub static SERVICE_ACCOUNT: Kind = Declaration {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short: &[Str::Borrowed("sa")],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    subresources: &[Subresource::Token],
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns { head: &[named("Name", 0), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), age(o, now)]
}
