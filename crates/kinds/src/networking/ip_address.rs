//! `IPAddress` (networking.k8s.io/v1): a Service's claim of one cluster address.

use crate::columns::{column_of, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str};
use crate::validate::{At, immutable_unshown, ip};
use jiff::Timestamp;
use machinery::field::{FieldErrors, Path};
use machinery::{names, object};
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
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/networking/validation/validation.go: ValidateIPAddress`.
fn validate(address: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parent = At::root(address).fields(&["spec", "parentRef"]);
    if let Some(old) = old {
        return immutable_unshown(&parent, &At::root(old).fields(&["spec", "parentRef"]), errors);
    }
    let name = object::name(address);
    if !name.is_empty() {
        ip(&Path::new("metadata").child("name"), name, &[], errors);
    }
    if !parent.must_be_set(errors) {
        return;
    }
    let group = parent.field("group");
    if !group.is_empty() {
        group.invalid_each(errors, names::dns1123_subdomain(group.text()));
    }
    for part in ["resource", "name"].map(|part| parent.field(part)) {
        if part.must_be_set(errors) {
            part.invalid_each(errors, names::path_segment(part.text(), false));
        }
    }
    let namespace = parent.field("namespace");
    namespace.invalid_each(errors, names::path_segment(namespace.text(), false));
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column_of("ParentRef", "string", "io.k8s.api.networking.v1.IPAddressSpec", "parentRef")],
    cells,
};

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
