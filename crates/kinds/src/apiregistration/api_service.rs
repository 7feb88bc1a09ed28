//! `APIService` (apiregistration.k8s.io/v1): a group and version served by another API server.

use crate::columns::{age, column, condition, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str, Subresource};
use jiff::Timestamp;
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
    ..Declaration::NEW
}
.build();

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
