//! `APIService` (apiregistration.k8s.io/v1): a group and version served by another API server.

use crate::columns::{age, column, condition, name, named, text};
use crate::defaults::set_missing;
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str, Subresource};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::names as rules;
use serde_json::Value;
use serde_json::json;

pub static API_SERVICE: Kind = Declaration {
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &[Str::Borrowed("api-extensions")],
    group: "apiregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
    subresources: &[Subresource::Status],
    name_rule: NameRule::PathSegment,
    storage_prefix: "apiregistration.k8s.io/apiservices",
    columns: Some(COLUMNS),
    conditional_defaults: Some(defaults),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn defaults(object: &mut Value) {
    let service = object.pointer_mut("/spec/service").and_then(Value::as_object_mut);
    if let Some(service) = service {
        set_missing(service, "port", json!(443));
    }
}

/// `kubernetes/kube-aggregator pkg/apis/apiregistration/validation/validation.go: ValidateAPIService`.
fn validate(object: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(object);
    let spec = at.field("spec");
    let (group, version) = (spec.field("group"), spec.field("version"));
    let (name, wanted) = (at.fields(&["metadata", "name"]), format!("{}.{}", version.text(), group.text()));
    if name.text() != wanted {
        name.invalid(errors, format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
    }
    if group.text().is_empty() && version.text() != "v1" {
        group.required(errors, "only v1 may have an empty group and it better be legacy kube");
    } else if !group.text().is_empty() {
        group.invalid_each(errors, rules::dns1123_subdomain(group.text()));
    }
    version.invalid_each(errors, rules::dns1035_label(version.text()));
    let (minimum, priority) = (spec.field("groupPriorityMinimum"), spec.field("versionPriority"));
    if !(1..=20_000).contains(&minimum.int()) {
        errors.push(FieldError::invalid(&minimum.path, minimum.int(), "must be positive and less than 20000"));
    }
    if !(1..=1000).contains(&priority.int()) {
        errors.push(FieldError::invalid(&priority.path, priority.int(), "must be positive and less than 1000"));
    }
    let (insecure, bundle) = (spec.field("insecureSkipTLSVerify"), spec.field("caBundle"));
    let Some(service) = spec.set("service") else {
        if !bundle.is_empty() {
            bundle.invalid(errors, "local APIServices may not have a caBundle");
        }
        if insecure.flag() {
            insecure.invalid(errors, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    };
    service.field("namespace").must_be_set(errors);
    service.field("name").must_be_set(errors);
    let port = service.field("port");
    for complaint in rules::port_number(port.int()) {
        port.invalid(errors, format!("port is not valid: {complaint}"));
    }
    if insecure.flag() && !bundle.is_empty() {
        insecure.invalid(errors, "may not be true if caBundle is present");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Service", "string"), column("Available", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let service = match o.pointer("/spec/service").filter(|service| !service.is_null()) {
        Some(service) => format!("{}/{}", text(service, "/namespace"), text(service, "/name")),
        None => "Local".to_owned(),
    };
    let available = match condition(o, "Available") {
        Some(condition) if condition["status"] == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", text(condition, "/status"), text(condition, "/reason")),
        None => "Unknown".to_owned(),
    };
    vec![name(o), json!(service), json!(available), age(o, now)]
}
