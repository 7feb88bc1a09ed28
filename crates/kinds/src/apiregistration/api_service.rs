//! `APIService` (apiregistration.k8s.io/v1): a group and version served by another API server.

use crate::columns::{age, column, condition, name, named, text};
use crate::defaults::set_missing;
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str, Subresource};
use crate::validate::At;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::{names, object};
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

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1_000;

/// `kubernetes/kube-aggregator pkg/apis/apiregistration/validation: ValidateAPIService`.
fn validate(service: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(service);
    let spec = at.field("spec");
    let (group, version) = (spec.field("group"), spec.field("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    let name = object::name(service);
    if !name.is_empty() && name != wanted && names::path_segment(name, false).is_empty() {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {}", machinery::go::quote(&wanted));
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), name, detail));
    }
    if group.is_empty() && !version.is("v1") {
        group.required(errors, "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        group.invalid_each(errors, names::dns1123_subdomain(group.text()));
    }
    version.invalid_each(errors, names::dns1035_label(version.text()));
    for (field, most, shown) in
        [("groupPriorityMinimum", GROUP_PRIORITY_MAX, "20000"), ("versionPriority", VERSION_PRIORITY_MAX, "1000")]
    {
        let priority = spec.field(field);
        if priority.int() <= 0 || priority.int() > most {
            let detail = format!("must be positive and less than {shown}");
            errors.push(FieldError::invalid(&priority.path, priority.int(), detail));
        }
    }
    served_by(&spec, errors);
    for condition in at.fields(&["status", "conditions"]).items() {
        condition.field("status").one_of(&["True", "False", "Unknown"], errors);
    }
}

/// Who serves the group, and whether it is believed to be who it says.
fn served_by(spec: &At, errors: &mut FieldErrors) {
    let (bundle, insecure) = (spec.field("caBundle"), spec.field("insecureSkipTLSVerify"));
    let Some(service) = spec.set("service") else {
        if !bundle.is_empty() {
            let length = STANDARD.decode(bundle.text()).map_or(0, |bytes| bytes.len());
            let detail = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(&bundle.path, format!("{length} bytes"), detail));
        }
        if insecure.flag() {
            insecure.invalid(errors, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    };
    service.field("namespace").must_be_set(errors);
    service.field("name").must_be_set(errors);
    let port = service.field("port");
    let complaints = names::port_number(port.int());
    if !complaints.is_empty() {
        let detail = format!("port is not valid: {}", complaints.join(", "));
        errors.push(FieldError::invalid(&port.path, port.int(), detail));
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
