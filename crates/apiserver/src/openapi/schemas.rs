//! Type facts as OpenAPI schemas, in either format.
//!
//! The older format is told no defaults, and may say more of a reference beside it; the newer one wraps such a reference.
//! `kubernetes/kube-openapi pkg/builder3/util: WrapRefs; pkg/handler: PruneDefaults`.

use std::collections::BTreeSet;

use kinds::facts::{Definition, Field, Type, definition};
use machinery::schema::ListKind;
use serde_json::{Map, Value, json};

use super::Form;

pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub const KINDS: &str = "x-kubernetes-group-version-kind";

pub fn reference(name: &str, form: Form) -> Value {
    let place = match form {
        Form::V2 => "definitions",
        Form::V3 => "components/schemas",
    };
    json!({ "$ref": format!("#/{place}/{name}") })
}

/// A reference beside which more is said.
pub fn extended(reference: Value, form: Form) -> Value {
    match form {
        Form::V2 => reference,
        Form::V3 => json!({ "allOf": [reference] }),
    }
}

/// The named definitions and all they refer to; what no fact is known of is left out.
pub fn closure(wanted: &BTreeSet<String>) -> Vec<&'static Definition> {
    let mut found = BTreeSet::new();
    let mut all = Vec::new();
    let mut todo: Vec<&'static Definition> = wanted.iter().filter_map(|name| definition(name)).collect();
    while let Some(facts) = todo.pop() {
        if found.insert(facts.name) {
            let fields = facts.fields.values().map(|field| &field.of);
            todo.extend(fields.chain(&facts.of).filter_map(|of| definition(referred(of)?)));
            all.push(facts);
        }
    }
    all.sort_unstable_by_key(|facts| facts.name);
    all
}

/// The definition that a type refers to, be it of its items.
fn referred(of: &'static Type) -> Option<&'static str> {
    match of {
        Type::Definition(name) => Some(name),
        Type::List(of) | Type::Map(of) => referred(of),
        _ => None,
    }
}

/// The kinds that a document tells of a type which every group has, `DeleteOptions` and `WatchEvent`.
/// `kubernetes/apiserver pkg/server/routes/openapi.go: filterScopedGVKs; kubernetes/client-go kubernetes/scheme`.
#[derive(Debug, Clone, Copy)]
pub enum Kinds<'a> {
    All,
    /// That of the document's own group version, and the core one.
    Within(&'a str, &'a str),
    /// Those that upstream's client library knows, as documents of custom kinds do.
    Clients,
}

/// Groups that the client library does not know.
const UNKNOWN_TO_CLIENTS: [&str; 4] =
    ["admission.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "imagepolicy.k8s.io"];

impl Kinds<'_> {
    fn tells(self, group: &str, version: &str) -> bool {
        match self {
            Kinds::All => true,
            Kinds::Within(own, of) => (group, version) == (own, of) || (group, version) == ("", "v1"),
            Kinds::Clients => !UNKNOWN_TO_CLIENTS.contains(&group),
        }
    }
}

/// A definition's schema.
pub fn of(facts: &'static Definition, form: Form, kinds: Kinds) -> Value {
    let mut schema = match &facts.published {
        Some(of) => of_type(of, form),
        None => of_fields(facts, form),
    };
    if facts.atomic && facts.published.is_none() {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    let of_every_group = matches!(facts.short_name(), "DeleteOptions" | "WatchEvent");
    let told = facts.kinds.iter().filter(|(group, version, _)| !of_every_group || kinds.tells(group, version));
    let told: Vec<Value> = told.map(kind_of).collect();
    if !told.is_empty() {
        schema[KINDS] = Value::Array(told);
    }
    if let Some(unions) = &facts.unions {
        schema["x-kubernetes-unions"] = unions.clone();
    }
    schema
}

fn of_fields(facts: &'static Definition, form: Form) -> Value {
    let mut schema = json!({ "type": "object" });
    let fields = facts.fields.iter().map(|(name, field)| ((*name).to_owned(), of_field(field, form)));
    let properties: Map<String, Value> = fields.collect();
    if !properties.is_empty() {
        schema["properties"] = Value::Object(properties);
    }
    if !facts.required.is_empty() {
        schema["required"] = json!(facts.required);
    }
    schema
}

fn kind_of((group, version, kind): &(&str, &str, &str)) -> Value {
    json!({ "group": group, "version": version, "kind": kind })
}

fn of_field(field: &'static Field, form: Form) -> Value {
    let mut schema = of_type(&field.of, form);
    if schema.get("$ref").is_some() && !field.bare {
        schema = extended(schema, form);
    }
    if let Some(default) = field.default.as_ref().filter(|_| form == Form::V3) {
        schema["default"] = default.clone();
    }
    if !field.values.is_empty() {
        let of = match field.of {
            Type::List(_) => &mut schema["items"],
            Type::Map(_) => &mut schema["additionalProperties"],
            _ => &mut schema,
        };
        of["enum"] = json!(field.values);
    }
    let map_type = field.atomic.map(|whole| if whole { "atomic" } else { "granular" });
    let keys = match &field.list {
        ListKind::Map(keys) => Some(keys.iter().map(AsRef::as_ref).collect::<Vec<&str>>()),
        _ => None,
    };
    let extensions = [
        ("map-type", map_type.map(Value::from)),
        ("list-type", field.list_type.map(Value::from)),
        ("list-map-keys", keys.map(Value::from)),
        ("patch-merge-key", field.merge_key.map(Value::from)),
        ("patch-strategy", field.strategy.map(Value::from)),
    ];
    for (name, value) in extensions {
        if let Some(value) = value {
            schema[format!("x-kubernetes-{name}")] = value;
        }
    }
    schema
}

fn of_type(of: &'static Type, form: Form) -> Value {
    match (of, form) {
        (Type::String, _) => json!({ "type": "string" }),
        (Type::Bytes, _) => json!({ "type": "string", "format": "byte" }),
        (Type::Int32, _) => json!({ "type": "integer", "format": "int32" }),
        (Type::Int64, _) => json!({ "type": "integer", "format": "int64" }),
        (Type::Double, _) => json!({ "type": "number", "format": "double" }),
        (Type::Bool, _) => json!({ "type": "boolean" }),
        (Type::Time | Type::MicroTime, _) => json!({ "type": "string", "format": "date-time" }),
        (Type::Quantity, Form::V2) => json!({ "type": "string" }),
        (Type::Quantity, Form::V3) => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        (Type::IntOrString, Form::V2) => json!({ "type": "string", "format": "int-or-string" }),
        (Type::IntOrString, Form::V3) => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        (Type::Any, _) => json!({}),
        (Type::Object, _) => json!({ "type": "object" }),
        (Type::Definition(name), _) => reference(name, form),
        (Type::List(items), _) => json!({ "type": "array", "items": of_type(items, form) }),
        (Type::Map(values), _) => json!({ "type": "object", "additionalProperties": of_type(values, form) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(name: &str, field: &str) -> (Value, Value) {
        let facts = definition(name).expect(name);
        let told = |form| of(facts, form, Kinds::All)["properties"][field].clone();
        (told(Form::V3), told(Form::V2))
    }

    #[test]
    fn a_reference_beside_which_more_is_said_is_wrapped_in_the_newer_format_alone() {
        let (newer, older) = both("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef");
        let granular = |mut schema: Value| {
            schema["x-kubernetes-map-type"] = json!("granular");
            schema
        };
        let name = "io.k8s.api.core.v1.ObjectReference";
        assert_eq!(newer, granular(json!({ "allOf": [reference(name, Form::V3)] })));
        assert_eq!(older, granular(reference(name, Form::V2)));
        let (newer, _) = both("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps", "not");
        assert!(newer["$ref"].is_string(), "nothing is said of it: {newer}");
    }

    #[test]
    fn the_older_format_is_told_no_defaults() {
        let (newer, older) = both("io.k8s.api.core.v1.ServicePort", "protocol");
        let values = json!(["SCTP", "TCP", "UDP"]);
        assert_eq!(newer, json!({ "type": "string", "default": "TCP", "enum": values }));
        assert_eq!(older, json!({ "type": "string", "enum": values }));
    }

    #[test]
    fn the_values_of_an_enumeration_are_those_of_items() {
        let (newer, _) = both("io.k8s.api.networking.v1.NetworkPolicySpec", "policyTypes");
        let items = json!({ "type": "string", "enum": ["Egress", "Ingress"] });
        assert_eq!(newer, json!({ "type": "array", "items": items, "x-kubernetes-list-type": "atomic" }));
    }

    #[test]
    fn types_without_fields_are_told_as_each_format_can() {
        let told = |name: &str, form| of(definition(name).expect(name), form, Kinds::All);
        let number = "io.k8s.apimachinery.pkg.api.resource.Quantity";
        assert_eq!(told(number, Form::V2), json!({ "type": "string" }));
        assert_eq!(told(number, Form::V3), json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }));
        assert_eq!(told("io.k8s.apimachinery.pkg.runtime.RawExtension", Form::V3), json!({ "type": "object" }));
    }

    #[test]
    fn a_document_tells_those_kinds_of_shared_types_that_are_its_own() {
        let facts = definition("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions").expect("known");
        let told = |kinds| of(facts, Form::V3, kinds)[KINDS].as_array().expect("kinds").len();
        assert_eq!(told(Kinds::Within("apps", "v1")), 2);
        assert_eq!(told(Kinds::Within("", "v1")), 1);
        assert_eq!(told(Kinds::All), told(Kinds::Clients) + 7);
    }

    #[test]
    fn required_fields_are_told_in_upstreams_order() {
        let facts = definition("io.k8s.api.admissionregistration.v1.Variable").expect("known");
        assert_eq!(of(facts, Form::V2, Kinds::All)["required"], json!(["name", "expression"]));
    }
}
