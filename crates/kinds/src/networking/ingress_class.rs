//! `IngressClass` (networking.k8s.io/v1): which controller serves an Ingress.

use crate::columns::{age, column, named, text};
use crate::defaults::set_missing;
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static INGRESS_CLASS: Kind = Declaration {
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.networking.v1.IngressClass",
    generation: Generation::OfSpec,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

fn defaults(class: &mut Value) {
    if let Some(parameters) = class.pointer_mut("/spec/parameters").and_then(Value::as_object_mut) {
        set_missing(parameters, "scope", "Cluster");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Controller", "string"), column("Parameters", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(shown_name(o)), json!(text(o, "/spec/controller")), json!(parameters(o)), age(o, now)]
}

fn shown_name(o: &Value) -> String {
    let marked = machinery::object::annotation(o, "ingressclass.kubernetes.io/is-default-class") == Some("true");
    format!("{}{}", machinery::object::name(o), if marked { " (default)" } else { "" })
}

fn parameters(o: &Value) -> String {
    let Some(parameters) = o.pointer("/spec/parameters").filter(|parameters| !parameters.is_null()) else {
        return "<none>".to_owned();
    };
    let group = match parameters.get("apiGroup").and_then(Value::as_str) {
        Some(group) => format!(".{group}"),
        None => String::new(),
    };
    format!("{}{group}/{}", text(parameters, "/kind"), text(parameters, "/name"))
}
