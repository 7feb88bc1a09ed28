//! `ServiceCIDR` (networking.k8s.io/v1): a range cluster addresses are taken from.

use crate::columns::{age, column, join_texts, list, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static SERVICE_CIDR: Kind = Declaration {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.networking.v1.ServiceCIDR",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("CIDRs", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(join_texts(list(o, "/spec/cidrs"), ",")), age(o, now)]
}
