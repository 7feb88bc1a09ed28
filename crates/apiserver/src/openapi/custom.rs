//! Custom kinds as OpenAPI schemas: what their definition says, with the fields that every object has.
//!
//! `kubernetes/apiextensions-apiserver pkg/controller/openapi: builder.buildKubeNative, v2.ToStructuralOpenAPIV2`.

use kinds::Kind;
use serde_json::{Value, json};

use super::Form;
use super::descriptions;
use super::schemas::{KINDS, LIST_META, OBJECT_META, extended, reference};

const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// The name of a custom kind's schema: its group's parts turned round, as Go packages are named.
pub fn name(kind: &Kind) -> String {
    let group: Vec<&str> = kind.group.split('.').rev().collect();
    format!("{}.{}.{}", group.join("."), kind.version, kind.names.kind)
}

/// The schema that a kind's definition gives and its list's, by name.
pub fn schemas(kind: &Kind, crd: Option<&Value>, form: Form) -> [(String, Value); 2] {
    let versions = crd.and_then(|crd| crd.pointer("/spec/versions")).and_then(Value::as_array);
    let version = versions.into_iter().flatten().find(|version| version["name"] == kind.version.as_ref());
    let given = version.and_then(|version| version.pointer("/schema/openAPIV3Schema"));
    let kept_whole = crd.and_then(|crd| crd.pointer("/spec/preserveUnknownFields")) == Some(&json!(true));
    let schema = match given {
        Some(given) => published(given.clone(), kept_whole, form),
        None => json!({ "type": "object" }),
    };
    let name = name(kind);
    let list = list_of(&name, form);
    let selectable: Vec<Value> = kind.fields.iter().map(|path| json!({ "fieldPath": path })).collect();
    let list_kind = kind.list_kind();
    let told = [(name.clone(), kind.names.kind.as_ref(), schema), (format!("{name}List"), list_kind.as_ref(), list)];
    told.map(|(name, of, mut schema)| {
        schema[KINDS] = json!([{ "group": kind.group, "version": kind.version, "kind": of }]);
        if !selectable.is_empty() {
            schema["x-kubernetes-selectable-fields"] = json!(selectable);
        }
        (name, schema)
    })
}

fn list_of(item: &str, form: Form) -> Value {
    let mut list = json!({
        "type": "object",
        "required": ["items"],
        "properties": { "items": { "type": "array", "items": reference(item, form) } },
    });
    for field in ["apiVersion", "kind"] {
        list["properties"][field] = type_meta(field);
    }
    list["properties"]["metadata"] = metadata(LIST_META, "Standard list's metadata.", form);
    list
}

fn type_meta(field: &str) -> Value {
    json!({ "type": "string", "description": descriptions::of_meta("Status", field) })
}

fn metadata(name: &str, words: &str, form: Form) -> Value {
    let mut schema = extended(reference(name, form), form);
    schema["description"] = json!(words);
    schema
}

/// A client of the older format takes a schema's fields for all that there may be, so it is told none of an object that
/// keeps unknown ones.
fn published(mut schema: Value, kept_whole: bool, form: Form) -> Value {
    if form == Form::V2 {
        if kept_whole || schema[PRESERVES] == true {
            return json!({ "type": "object" });
        }
        walk(&mut schema, &mut for_v2);
    } else {
        walk(&mut schema, &mut unfold);
    }
    add_fields_of_every_object(&mut schema, form);
    walk(&mut schema, &mut |schema| {
        if schema[EMBEDDED] == true && (form == Form::V3 || schema[PRESERVES] != true) {
            add_fields_of_every_object(schema, form);
            require(schema, &["kind", "apiVersion"]);
        }
    });
    schema
}

fn add_fields_of_every_object(schema: &mut Value, form: Form) {
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = type_meta(field);
    }
    schema["properties"]["metadata"] = metadata(OBJECT_META, "Standard object's metadata.", form);
}

fn require(schema: &mut Value, fields: &[&str]) {
    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
    for field in fields {
        if !required.iter().any(|known| known == field) {
            required.push(json!(field));
        }
    }
    schema["required"] = Value::Array(required);
}

/// Says in the format's own words what an integer or a string is, unless the schema does.
/// `kubernetes/apiextensions-apiserver pkg/apiserver/schema/unfold.go`.
fn unfold(schema: &mut Value) {
    let either = json!([{ "type": "integer" }, { "type": "string" }]);
    if schema[INT_OR_STRING] != true || schema["anyOf"] == either || schema["allOf"][0]["anyOf"] == either {
        return;
    }
    if schema["anyOf"].is_null() {
        schema["anyOf"] = either;
        return;
    }
    let mut all = schema["allOf"].as_array().cloned().unwrap_or_default();
    all.insert(0, json!({ "anyOf": either }));
    schema["allOf"] = Value::Array(all);
}

/// Takes away what the older format has no words for.
fn for_v2(schema: &mut Value) {
    let is_nullable = |schema: &Value| schema["nullable"] == true;
    let (nullable, preserves) = (is_nullable(schema), schema[PRESERVES] == true);
    let optional = schema["properties"].as_object().into_iter().flatten().filter(|(_, value)| is_nullable(value));
    let optional: Vec<String> = optional.map(|(name, _)| name.clone()).collect();
    let any_value = is_nullable(&schema["additionalProperties"]);
    let Some(fields) = schema.as_object_mut() else { return };
    for unknown in ["allOf", "oneOf", "anyOf", "not", "nullable", "default"] {
        fields.remove(unknown);
    }
    if nullable || preserves {
        fields.remove("items");
        fields.remove("properties");
    }
    let untyped = match fields.get("type").and_then(Value::as_str) {
        Some("array") => !fields.contains_key("items"),
        Some("object") => preserves,
        _ => false,
    };
    if nullable || untyped {
        fields.remove("type");
    }
    if let Some(Value::Array(required)) = fields.get_mut("required") {
        required.retain(|name| !any_value && !optional.iter().any(|optional| name == optional));
        if required.is_empty() {
            fields.remove("required");
        }
    }
}

/// Visits a schema, then all that it is made of.
fn walk(schema: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    visit(schema);
    for (part, inner) in schema.as_object_mut().into_iter().flatten() {
        match (part.as_str(), inner) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(|schema| walk(schema, visit));
            }
            ("items" | "additionalProperties", inner @ Value::Object(_)) => walk(inner, visit),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given() -> Value {
        json!({
            "type": "object",
            "required": ["a", "n"],
            "properties": {
                "a": { "type": "integer", "default": 1, "anyOf": [{ "minimum": 1 }], "description": "A." },
                "n": { "type": "object", "nullable": true, "properties": { "x": { "type": "string" } } },
                "l": { "type": "array", "items": { "type": "object", "x-kubernetes-embedded-resource": true } },
                "p": { "type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {} },
            },
        })
    }

    #[test]
    fn the_older_format_is_told_what_it_has_words_for() {
        let schema = published(given(), false, Form::V2);
        let properties = &schema["properties"];
        assert_eq!(properties["a"], json!({ "type": "integer", "description": "A." }));
        assert_eq!(properties["n"], json!({}));
        assert_eq!(properties["p"], json!({ "x-kubernetes-preserve-unknown-fields": true }));
        assert_eq!(properties["l"]["items"]["required"], json!(["kind", "apiVersion"]));
        assert_eq!(schema["required"], json!(["a"]));
        assert_eq!(properties["metadata"]["$ref"], format!("#/definitions/{OBJECT_META}"));
    }

    #[test]
    fn an_integer_or_a_string_is_told_in_the_formats_words() {
        let port = |anys: Value| json!({ "type": "object", "properties": { "port": anys } });
        let told = |given| published(port(given), false, Form::V3)["properties"]["port"].clone();
        let either = json!([{ "type": "integer" }, { "type": "string" }]);
        let bare = told(json!({ INT_OR_STRING: true }));
        assert_eq!(bare, json!({ INT_OR_STRING: true, "anyOf": either }));
        assert_eq!(told(bare.clone()), bare);
        let other = json!({ INT_OR_STRING: true, "anyOf": [{ "minimum": 1 }] });
        assert_eq!(told(other)["allOf"], json!([{ "anyOf": either }]));
    }

    #[test]
    fn an_object_that_keeps_everything_has_no_fields_in_the_older_format() {
        let mut whole = given();
        whole[PRESERVES] = json!(true);
        assert_eq!(published(whole.clone(), false, Form::V2), json!({ "type": "object" }));
        assert_eq!(published(given(), true, Form::V2), json!({ "type": "object" }));
        assert!(published(whole, false, Form::V3)["properties"]["kind"]["description"].as_str().unwrap().len() > 20);
    }
}
