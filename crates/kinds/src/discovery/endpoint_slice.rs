//! `EndpointSlice` (discovery.k8s.io/v1): a slice of the addresses behind a Service.

use crate::columns::{age, column, list, name, named, shown, text, with_more};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static ENDPOINT_SLICE: Kind = Declaration {
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    group: "discovery.k8s.io",
    schema: "io.k8s.api.discovery.v1.EndpointSlice",
    generation: Generation::OfAll,
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("AddressType", "string"),
        column("Ports", "string"),
        column("Endpoints", "string"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/addressType")), json!(ports(o)), json!(addresses(o)), age(o, now)]
}

fn ports(o: &Value) -> String {
    let ports: Vec<String> = list(o, "/ports")
        .iter()
        .map(|port| match (port.get("port").and_then(Value::as_i64), port.get("name").and_then(Value::as_str)) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    with_more(&ports, 3)
}

fn addresses(o: &Value) -> String {
    let endpoints = list(o, "/endpoints").iter().flat_map(|endpoint| list(endpoint, "/addresses"));
    with_more(&endpoints.map(shown).collect::<Vec<_>>(), 3)
}
