//! `EndpointSlice` (discovery.k8s.io/v1): a slice of the addresses behind a Service.

use crate::columns::{age, column, column_of, list, name, named, shown, text, with_more};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind};
use crate::validate::{At, immutable_unshown, routable_ip};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::{names, object};
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
    validate: Some(validate),
    on_update: Some(on_update),
    ..Declaration::NEW
}
.build();

/// New labels are a new generation too: they say whose endpoints these are.
fn on_update(slice: &mut Value, old: &Value) {
    if object::labels(slice) != object::labels(old) {
        object::set_generation(slice, object::generation(old) + 1);
    }
}

fn validate(slice: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(slice);
    let of = at.field("addressType");
    of.required_one_of(&["FQDN", "IPv4", "IPv6"], errors);
    if let Some(old) = old {
        immutable_unshown(&of, &At::root(old).field("addressType"), errors);
    }
    let mut seen = Vec::new();
    for port in at.field("ports").items() {
        let name = port.field("name");
        if !name.is_empty() {
            name.invalid_each(errors, names::dns1123_label(name.text()));
        }
        if seen.contains(&name.text()) {
            errors.push(FieldError::duplicate(&name.path, name.text()));
        }
        seen.push(name.text());
        port.field("protocol").one_of(&["SCTP", "TCP", "UDP"], errors);
        if let Some(application) = port.set("appProtocol") {
            application.invalid_each(errors, names::qualified_name(application.text()));
        }
    }
    if old.is_some_and(|old| old["endpoints"] == slice["endpoints"]) {
        return;
    }
    for endpoint in at.field("endpoints").items() {
        self::endpoint(&endpoint, of.text(), errors);
    }
}

fn endpoint(at: &At, of: &str, errors: &mut FieldErrors) {
    const ADDRESSES_MAX: usize = 100;
    let addresses = at.field("addresses");
    if addresses.is_empty() {
        addresses.required(errors, "");
    } else if addresses.count() > ADDRESSES_MAX {
        errors.push(FieldError::too_many(&addresses.path, addresses.count(), ADDRESSES_MAX));
    }
    for address in addresses.items() {
        let text = address.text();
        if of == "FQDN" {
            address.invalid_each(errors, names::dns1123_subdomain(text));
            continue;
        }
        if !matches!(of, "IPv4" | "IPv6") || !crate::validate::ip(&address.path, text, &[], errors) {
            continue;
        }
        if text.contains(':') != (of == "IPv6") {
            errors.push(FieldError::invalid(&addresses.path, text, format!("must be an {of} address")));
        }
        routable_ip(&address.path, text, errors);
    }
    if let Some(node) = at.set("nodeName") {
        node.invalid_each(errors, names::dns1123_subdomain(node.text()));
    }
    if let Some(host) = at.set("hostname") {
        host.invalid_each(errors, names::dns1123_label(host.text()));
    }
    hinted(&at.fields(&["hints", "forZones"]), names::label_value, errors);
    hinted(&at.fields(&["hints", "forNodes"]), names::dns1123_subdomain, errors);
}

/// Names of zones or nodes, each once.
fn hinted(all: &At, rule: fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for one in all.items() {
        let name = one.field("name");
        if seen.contains(&name.text()) {
            name.duplicate(errors);
        }
        seen.push(name.text());
        name.invalid_each(errors, rule(name.text()));
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("AddressType", "string", "io.k8s.api.discovery.v1.EndpointSlice", "addressType"),
        column_of("Ports", "string", "io.k8s.api.discovery.v1.EndpointSlice", "ports"),
        column_of("Endpoints", "string", "io.k8s.api.discovery.v1.EndpointSlice", "endpoints"),
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
