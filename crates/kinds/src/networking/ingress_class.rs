//! `IngressClass` (networking.k8s.io/v1): which controller serves an Ingress.

use crate::columns::{age, column, named, text};
use crate::defaults::set_missing;
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope};
use crate::validate::{At, immutable};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::names;
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
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(class: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    const CONTROLLER_BYTES_MAX: usize = 250;
    let spec = At::root(class).field("spec");
    let controller = spec.field("controller");
    if let Some(old) = old {
        immutable(&controller, &At::root(old).fields(&["spec", "controller"]), errors);
    }
    if controller.text().len() > CONTROLLER_BYTES_MAX {
        errors.push(FieldError::too_long(&controller.path, CONTROLLER_BYTES_MAX));
    }
    errors.extend(names::domain_prefixed_path(&controller.path, controller.text()));
    let Some(parameters) = spec.set("parameters") else { return };
    super::ingress::reference(&parameters, errors);
    let (scope, namespace) = (parameters.field("scope"), parameters.field("namespace"));
    match (scope.text(), namespace.is_set()) {
        ("Namespace", false) => namespace.required(errors, "`parameters.scope` is set to 'Namespace'"),
        ("Namespace", true) => namespace.invalid_each(errors, names::dns1123_label(namespace.text())),
        ("Cluster", true) => namespace.forbidden(errors, "`parameters.scope` is set to 'Cluster'"),
        ("Cluster", false) => {}
        _ => {
            scope.one_of(&["Cluster", "Namespace"], errors);
        }
    }
}

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
