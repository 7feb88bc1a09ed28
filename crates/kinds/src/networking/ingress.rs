//! `Ingress` (networking.k8s.io/v1): HTTP routes from outside to Services.

use crate::columns::{age, column, count, list, load_balancer, name, named, text, text_or};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static INGRESS: Kind = Declaration {
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short: &[Str::Borrowed("ing")],
    group: "networking.k8s.io",
    schema: "io.k8s.api.networking.v1.Ingress",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    storage_prefix: "ingress",
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Class", "string"),
        column("Hosts", "string"),
        column("Address", "string"),
        column("Ports", "string"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        text_or(o, "/spec/ingressClassName", "<none>"),
        json!(hosts(o)),
        json!(load_balancer(o)),
        json!(if count(o, "/spec/tls") > 0 { "80, 443" } else { "80" }),
        age(o, now),
    ]
}

fn hosts(o: &Value) -> String {
    const MAX: usize = 3;
    let rules = list(o, "/spec/rules");
    let mut hosts: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= hosts.len() == MAX;
        let host = text(rule, "/host");
        if !more && !host.is_empty() {
            hosts.push(host);
        }
    }
    match (hosts.join(","), more) {
        (none, _) if none.is_empty() => "*".to_owned(),
        (hosts, true) => format!("{hosts} + {} more...", rules.len() - MAX),
        (hosts, false) => hosts,
    }
}
