//! Type facts as OpenAPI schemas.

use std::collections::BTreeSet;

use kinds::facts::{Definition, Field, Type, definition};
use machinery::schema::ListKind;
use serde_json::{Map, Value, json};

pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The schemas of the named definitions and of all they refer to.
pub fn closure(wanted: BTreeSet<String>) -> Map<String, Value> {
    let mut schemas = Map::new();
    let mut todo: Vec<String> = wanted.into_iter().collect();
    while let Some(name) = todo.pop() {
        if schemas.contains_key(&name) {
            continue;
        }
        let schema = match definition(&name) {
            Some(facts) => of_definition(facts, &mut todo),
            None => match list_of(&name) {
                Some((schema, item)) => {
                    todo.push(item);
                    todo.push(LIST_META.to_owned());
                    schema
                }
                None => json!({ "type": "object" }),
            },
        };
        schemas.insert(name, schema);
    }
    schemas
}

/// A list's schema, where the facts have none of their own.
fn list_of(name: &str) -> Option<(Value, String)> {
    let item = name.strip_suffix("List")?;
    definition(item)?;
    Some((list_schema(item), item.to_owned()))
}

pub fn list_schema(item: &str) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "items": { "type": "array", "items": reference(item) },
            "metadata": { "allOf": [reference(LIST_META)], "default": {} },
        },
    })
}

fn of_definition(facts: &'static Definition, todo: &mut Vec<String>) -> Value {
    let mut schema = match &facts.of {
        Some(of) => special(of),
        None => {
            let mut properties = Map::new();
            let mut required = Vec::new();
            for (name, field) in &facts.fields {
                properties.insert((*name).to_owned(), of_field(field, todo));
                if field.required {
                    required.push(*name);
                }
            }
            let mut schema = json!({ "type": "object" });
            if !properties.is_empty() {
                schema["properties"] = Value::Object(properties);
            }
            if !required.is_empty() {
                schema["required"] = json!(required);
            }
            schema
        }
    };
    if facts.atomic {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    if !facts.kinds.is_empty() {
        let kind =
            |(group, version, kind): &(&str, &str, &str)| json!({ "group": group, "version": version, "kind": kind });
        schema["x-kubernetes-group-version-kind"] = facts.kinds.iter().map(kind).collect();
    }
    if let Some(unions) = &facts.unions {
        schema["x-kubernetes-unions"] = unions.clone();
    }
    schema
}

/// Types that are not what their JSON type alone says.
fn special(of: &Type) -> Value {
    match of {
        Type::Quantity => json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }),
        Type::IntOrString => {
            json!({ "format": "int-or-string", "oneOf": [{ "type": "integer" }, { "type": "string" }] })
        }
        Type::Time | Type::MicroTime => json!({ "type": "string", "format": "date-time" }),
        Type::String => json!({ "type": "string" }),
        Type::Object => json!({ "type": "object" }),
        Type::Any => json!({}),
        _ => json!({ "type": "object" }),
    }
}

fn of_field(field: &'static Field, todo: &mut Vec<String>) -> Value {
    let mut schema = of_type(&field.of, todo);
    let extends = field.default.is_some() || field.atomic;
    if extends && schema.get("$ref").is_some() {
        schema = json!({ "allOf": [schema] });
    }
    if let Some(default) = &field.default {
        schema["default"] = default.clone();
    }
    if !field.values.is_empty() {
        schema["enum"] = json!(field.values);
    }
    if field.atomic {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    if let Some(list_type) = field.list_type {
        schema["x-kubernetes-list-type"] = json!(list_type);
    }
    if let ListKind::Map(keys) = &field.list {
        let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
        schema["x-kubernetes-list-map-keys"] = json!(keys);
    }
    if let Some(key) = field.merge_key {
        schema["x-kubernetes-patch-merge-key"] = json!(key);
    }
    if let Some(strategy) = field.strategy {
        schema["x-kubernetes-patch-strategy"] = json!(strategy);
    }
    schema
}

fn of_type(of: &'static Type, todo: &mut Vec<String>) -> Value {
    match of {
        Type::String => json!({ "type": "string" }),
        Type::Bytes => json!({ "type": "string", "format": "byte" }),
        Type::Int32 => json!({ "type": "integer", "format": "int32" }),
        Type::Int64 => json!({ "type": "integer", "format": "int64" }),
        Type::Double => json!({ "type": "number", "format": "double" }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Definition(name) => {
            todo.push((*name).to_owned());
            reference(name)
        }
        Type::List(items) => json!({ "type": "array", "items": of_type(items, todo) }),
        Type::Map(values) => json!({ "type": "object", "additionalProperties": of_type(values, todo) }),
        other => special(other),
    }
}

/// Turns a document's schemas and operations into the older format's: other references, no `allOf` around them,
/// parameters with their type beside their name.
pub fn to_v2(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Array(all)) = map.get("allOf")
                && all.len() == 1
                && let Some(Value::String(reference)) = all[0].get("$ref")
            {
                let reference = reference.clone();
                map.remove("allOf");
                map.remove("default");
                map.insert("$ref".to_owned(), Value::String(reference));
            }
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/definitions/");
            }
            if map.get("in").is_some_and(Value::is_string)
                && let Some(Value::Object(schema)) = map.remove("schema")
            {
                map.extend(schema);
            }
            if let Some(body) = map.remove("requestBody") {
                let schema = body
                    .pointer("/content")
                    .and_then(Value::as_object)
                    .and_then(|content| content.values().next().cloned());
                let schema = schema.and_then(|content| content.get("schema").cloned()).unwrap_or_else(|| json!({}));
                let parameter = json!({ "name": "body", "in": "body", "required": true });
                if let Some(Value::Array(parameters)) = map.get_mut("parameters") {
                    parameters.push(parameter);
                    let last = parameters.len() - 1;
                    let mut schema = schema;
                    to_v2(&mut schema);
                    parameters[last]["schema"] = schema;
                    for parameter in &mut parameters[..last] {
                        to_v2(parameter);
                    }
                }
            }
            if let Some(content) = map.remove("content") {
                let first = content.as_object().and_then(|content| content.values().next().cloned());
                if let Some(schema) = first.and_then(|content| content.get("schema").cloned()) {
                    map.insert("schema".to_owned(), schema);
                }
            }
            if map.contains_key("oneOf") {
                map.remove("oneOf");
                map.insert("type".to_owned(), json!("string"));
            }
            for (name, value) in map {
                match value {
                    // Names that people gave: none of them means what it would mean in a schema.
                    Value::Object(properties) if name == "properties" => properties.values_mut().for_each(to_v2),
                    other => to_v2(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(to_v2),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_may_be_called_as_a_part_of_a_schema_is() {
        let mut schema = json!({ "type": "object", "properties": {
            "oneOf": { "type": "array", "items": { "allOf": [{ "$ref": "#/components/schemas/a" }] } },
            "content": { "oneOf": [{ "type": "integer" }, { "type": "string" }] } } });
        to_v2(&mut schema);
        let wanted = json!({ "type": "object", "properties": {
            "oneOf": { "type": "array", "items": { "$ref": "#/definitions/a" } }, "content": { "type": "string" } } });
        assert_eq!(schema, wanted);
    }
}
