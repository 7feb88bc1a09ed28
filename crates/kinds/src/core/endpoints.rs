//! `Endpoints` (v1): the addresses behind a Service, in one object.

use crate::columns::{age, column, count, list, name, named, number, text, with_more};
use crate::defaults::{objects, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static ENDPOINTS: Kind = Declaration {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short: &[Str::Borrowed("ep")],
    schema: "io.k8s.api.core.v1.Endpoints",
    storage_prefix: "services/endpoints",
    unconditional_update: true,
    create_on_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

fn defaults(endpoints: &mut Value) {
    let Some(fields) = endpoints.as_object_mut() else { return };
    for subset in objects(fields, "subsets") {
        objects(subset, "ports").for_each(|port| set_unset(port, "protocol", "TCP"));
    }
}

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Endpoints", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(addresses(o)), age(o, now)]
}

fn addresses(o: &Value) -> String {
    if count(o, "/subsets") == 0 {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in list(o, "/subsets") {
        let addresses: Vec<&str> = list(subset, "/addresses").iter().map(|address| text(address, "/ip")).collect();
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            all.extend(addresses.iter().map(|ip| (*ip).to_owned()));
        }
        for port in ports {
            let number = number(port, "/port");
            all.extend(addresses.iter().map(|ip| match ip.contains(':') {
                true => format!("[{ip}]:{number}"),
                false => format!("{ip}:{number}"),
            }));
        }
    }
    if all.is_empty() { String::new() } else { with_more(&all, 3) }
}
