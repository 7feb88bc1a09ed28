//! `Endpoints` (v1): the addresses behind a Service, in one object.

use crate::columns::{age, column, column_of, count, list, name, named, number, text, with_more};
use crate::defaults::{objects, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str};
use crate::validate::{At, routable_ip};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::names;
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
    deprecation: "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(endpoints: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if old.is_some_and(|old| old["subsets"] == endpoints["subsets"]) {
        return;
    }
    for subset in At::root(endpoints).field("subsets").items() {
        let lists = [subset.field("addresses"), subset.field("notReadyAddresses")];
        if lists.iter().all(At::is_empty) {
            subset.required(errors, "must specify `addresses` or `notReadyAddresses`");
        }
        lists.iter().flat_map(At::items).for_each(|at| address(&at, errors));
        let ports = subset.field("ports");
        for port in ports.items() {
            let [name, number, protocol] = ["name", "port", "protocol"].map(|name| port.field(name));
            if !name.is_empty() {
                name.invalid_each(errors, names::dns1123_label(name.text()));
            } else if ports.count() > 1 {
                name.required(errors, "");
            }
            crate::validate::port(&number, errors);
            protocol.required_one_of(&["SCTP", "TCP", "UDP"], errors);
            if let Some(application) = port.set("appProtocol") {
                application.invalid_each(errors, names::qualified_name(application.text()));
            }
        }
    }
}

fn address(at: &At, errors: &mut FieldErrors) {
    let [ip, host, node] = ["ip", "hostname", "nodeName"].map(|name| at.field(name));
    if crate::validate::ip(&ip.path, ip.text(), &[], errors) {
        routable_ip(&ip.path, ip.text(), errors);
    } else {
        ip.invalid(errors, "must be a valid IP address");
    }
    if !host.is_empty() {
        host.invalid_each(errors, names::dns1123_label(host.text()));
    }
    if node.is_set() {
        node.invalid_each(errors, names::dns1123_subdomain(node.text()));
    }
}

fn defaults(endpoints: &mut Value) {
    let Some(fields) = endpoints.as_object_mut() else { return };
    for subset in objects(fields, "subsets") {
        objects(subset, "ports").for_each(|port| set_unset(port, "protocol", "TCP"));
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Endpoints", "string", "io.k8s.api.core.v1.Endpoints", "subsets"),
        column("Age", "string"),
    ],
    cells,
};

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
