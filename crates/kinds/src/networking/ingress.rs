//! `Ingress` (networking.k8s.io/v1): HTTP routes from outside to Services.

use crate::columns::{age, column, count, list, load_balancer, name, named, text, text_or};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str, Subresource};
use crate::validate::{At, shown};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
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
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(ingress: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(ingress).field("spec");
    if old.is_some_and(|old| old["spec"] == ingress["spec"]) {
        return;
    }
    let (rules, backend_of_last_resort) = (spec.field("rules"), spec.field("defaultBackend"));
    if rules.is_empty() && !backend_of_last_resort.is_set() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&spec.path, shown(if rules.is_set() { "[]" } else { "null" }), detail));
    }
    if backend_of_last_resort.is_set() {
        backend(&backend_of_last_resort, errors);
    }
    for rule in rules.items() {
        let name = rule.field("host");
        if !name.is_empty() {
            if name.text().parse::<std::net::IpAddr>().is_ok() {
                name.invalid(errors, "must be a DNS name, not an IP address");
            }
            host(&name, errors);
        }
        if let Some(http) = rule.set("http") {
            let paths = http.field("paths");
            paths.must_be_set(errors);
            paths.items().for_each(|at| path(&at, errors));
        }
    }
    for tls in spec.field("tls").items() {
        tls.field("hosts").items().for_each(|name| host(&name, errors));
        let secret = tls.field("secretName");
        if !secret.is_empty() {
            secret.invalid_each(errors, names::dns1123_subdomain(secret.text()));
        }
    }
    let class = spec.field("ingressClassName");
    if class.is_set() {
        class.invalid_each(errors, names::dns1123_subdomain(class.text()));
    }
    const CLASS: &str = "kubernetes.io/ingress.class";
    let annotated = machinery::object::annotation(ingress, CLASS);
    if let Some(value) = annotated.filter(|value| old.is_none() && class.is_set() && !class.is(value)) {
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(&Path::new("annotations").child(CLASS), value, detail));
    }
}

fn host(name: &At, errors: &mut FieldErrors) {
    let wildcard = name.text().contains('*');
    let rule = if wildcard { names::wildcard_dns1123_subdomain } else { names::dns1123_subdomain };
    name.invalid_each(errors, rule(name.text()));
}

fn path(at: &At, errors: &mut FieldErrors) {
    let (of, path) = (at.field("pathType"), at.field("path"));
    let text = path.text();
    let mut refuse = |detail: String| errors.push(FieldError::invalid(&path.path, text, detail));
    match of.text() {
        _ if !of.is_set() => return of.required(errors, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                refuse("must be an absolute path".to_owned());
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| text.contains(**part)) {
                refuse(format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].iter().filter(|end| text.ends_with(**end)) {
                refuse(format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                refuse("must be an absolute path".to_owned());
            }
        }
        _ => {
            of.one_of(&["Exact", "ImplementationSpecific", "Prefix"], errors);
        }
    }
    backend(&at.field("backend"), errors);
}

fn backend(at: &At, errors: &mut FieldErrors) {
    let (service, resource) = (at.field("service"), at.field("resource"));
    let detail = match (service.is_set(), resource.is_set()) {
        (true, true) => "cannot set both resource and service backends",
        (false, true) => return reference(&resource, errors),
        (true, false) => {
            let (name, port) = (service.field("name"), service.field("port"));
            if name.must_be_set(errors) {
                name.invalid_each(errors, names::dns1123_label(name.text()));
            }
            let (name, number) = (port.field("name"), port.field("number"));
            match (!name.is_empty(), !number.is_empty()) {
                (true, true) => "cannot set both port name & port number",
                (true, false) => return crate::validate::port(&name, errors),
                (false, true) => return crate::validate::port(&number, errors),
                (false, false) => return at.required(errors, "port name or number is required"),
            }
        }
        (false, false) => "resource or service backend is required",
    };
    errors.push(FieldError::invalid(&at.path, "", detail));
}

/// A reference to an object of any kind.
pub(super) fn reference(at: &At, errors: &mut FieldErrors) {
    if let Some(group) = at.set("apiGroup") {
        group.invalid_each(errors, names::dns1123_subdomain(group.text()));
    }
    for field in ["kind", "name"].map(|name| at.field(name)) {
        if field.must_be_set(errors) {
            field.invalid_each(errors, names::path_segment(field.text(), false));
        }
    }
}

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
