//! `IPAddress` (networking.k8s.io/v1): a Service's claim of one cluster address.

use crate::columns::{column, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static IP_ADDRESS: Kind = Declaration {
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short: &[Str::Borrowed("ip")],
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.networking.v1.IPAddress",
    name_rule: NameRule::Any,
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns { head: &[named("Name", 0), column("ParentRef", "string")], cells };

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(parent(o))]
}

fn parent(o: &Value) -> String {
    let Some(parent) = o.pointer("/spec/parentRef").filter(|parent| !parent.is_null()) else {
        return "<none>".to_owned();
    };
    let resource = match text(parent, "/group") {
        "" => text(parent, "/resource").to_lowercase(),
        group => format!("{}.{group}", text(parent, "/resource")).to_lowercase(),
    };
    match text(parent, "/namespace") {
        "" => format!("{resource}/{}", text(parent, "/name")),
        namespace => format!("{resource}/{namespace}/{}", text(parent, "/name")),
    }
}
