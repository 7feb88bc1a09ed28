//! Definitions of upstream's OpenAPI v3 documents, boiled down to facts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::enums::Enums;
use super::{go, object};

const KINDS: &str = "x-kubernetes-group-version-kind";

/// What is known of a definition besides its schema.
pub struct Source<'a> {
    pub name: &'a str,
    pub tags: Option<&'a BTreeMap<String, go::Field>>,
    pub package: Option<&'a go::Package>,
    pub enums: &'a Enums,
}

/// Every definition of every group version, by name.
pub fn definitions(kubernetes: &Path) -> Result<BTreeMap<String, Value>> {
    let directory = kubernetes.join("api/openapi-spec/v3");
    let mut definitions = BTreeMap::new();
    let mut paths = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let document: Value = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        let Some(schemas) = document["components"]["schemas"].as_object() else { continue };
        definitions.extend(schemas.iter().map(|(name, schema)| (name.clone(), schema.clone())));
    }
    // Of the types that every group has, such as DeleteOptions, a group version's document lists its own kinds alone.
    let path = kubernetes.join("api/openapi-spec/swagger.json");
    let whole: Value = serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)?;
    for (name, schema) in &mut definitions {
        if let Some(kinds) = whole["definitions"][name].get(KINDS) {
            schema[KINDS] = kinds.clone();
        }
    }
    Ok(definitions)
}

/// Collects the names of definitions a schema refers to.
pub fn references(schema: &Value, into: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str().filter(|_| key == "$ref").and_then(|target| target.rsplit('/').next()) {
                    Some(name) => into.push(name.to_owned()),
                    None => references(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        _ => {}
    }
}

/// One definition's facts.
pub fn fact(schema: &Value, source: &Source) -> Result<Value> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut fields = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let tag = source.tags.and_then(|tags| tags.get(name));
        if tag.is_none() && source.tags.is_some() && !matches!(name.as_str(), "apiVersion" | "kind") {
            bail!("field {name} has no Go tag");
        }
        let place = required.iter().position(|required| required == name).map(|place| place + 1);
        let fact = field_fact(source, name, field, place).with_context(|| name.clone())?;
        fields.insert(name.clone(), fact);
    }
    let kinds: Vec<Value> = schema[KINDS]
        .as_array()
        .into_iter()
        .flatten()
        .map(|kind| json!([kind["group"], kind["version"], kind["kind"]]))
        .collect();
    let own_type = if fields.is_empty() { Some(json!(type_expression(schema)?)) } else { None };
    Ok(object([
        ("a", map_type(schema)),
        ("f", (!fields.is_empty()).then_some(Value::Object(fields))),
        ("gvk", (!kinds.is_empty()).then_some(Value::Array(kinds))),
        ("t", own_type),
        ("u", schema.get("x-kubernetes-unions").cloned()),
    ]))
}

/// `1` for a map that is owned as a whole, `0` for one that is not where its type says it is.
fn map_type(schema: &Value) -> Option<Value> {
    match schema["x-kubernetes-map-type"].as_str() {
        Some("atomic") => Some(json!(1)),
        Some("granular") => Some(json!(0)),
        _ => None,
    }
}

fn field_fact(source: &Source, name: &str, schema: &Value, place: Option<usize>) -> Result<Value> {
    let (tag, package) = (source.tags.and_then(|tags| tags.get(name)), source.package);
    let numbers = tag.map(|tag| tag.numbers.clone()).filter(|numbers| !numbers.is_empty());
    let of = type_expression(schema)?;
    let plain = !of.contains('#') || of.ends_with(".Quantity");
    let go_type = tag.zip(package).and_then(|(tag, package)| go::printed_type(&tag.go_type, package.name()));
    Ok(object([
        ("a", map_type(schema)),
        ("b", schema.get("$ref").map(|_| json!(1))),
        ("d", schema.get("default").cloned()),
        ("e", tag.and_then(|tag| when_empty(schema, tag)).map(|how| json!(how))),
        ("en", source.enums.values(source.name, name).map(|values| json!(values))),
        ("g", go_type.filter(|name| plain && name != "resource.Quantity").map(|name| json!(name))),
        ("i", tag.map(|tag| tag.embedded.join(".")).filter(|path| !path.is_empty()).map(|path| json!(path))),
        ("k", schema.get("x-kubernetes-list-map-keys").cloned()),
        ("l", schema.get("x-kubernetes-list-type").cloned()),
        ("m", schema.get("x-kubernetes-patch-merge-key").cloned()),
        ("n", numbers.map(|numbers| if numbers.len() == 1 { json!(numbers[0]) } else { json!(numbers) })),
        ("r", place.map(|place| json!(place))),
        ("s", schema.get("x-kubernetes-patch-strategy").cloned()),
        ("t", Some(json!(of))),
    ]))
}

/// What Go's encoder does with an empty value: `z` writes the type's zero, `n` writes `null`, `o` leaves it out; none
/// for pointers, which are left out when missing and written whatever they point to.
fn when_empty(schema: &Value, tag: &go::Field) -> Option<&'static str> {
    let is_struct = reference(schema).is_some();
    let is_nil = matches!(schema["type"].as_str(), Some("array" | "object")) || schema["format"] == "byte";
    match (tag.go_type.starts_with('*'), is_struct, tag.omit_empty, tag.omit_zero) {
        (true, _, true, _) => None,
        (true, _, false, _) => Some("n"),
        (false, true, _, true) => Some("o"),
        (false, true, _, false) => Some("z"),
        (false, false, true, _) | (false, false, _, true) => Some("o"),
        (false, false, false, false) => Some(if is_nil { "n" } else { "z" }),
    }
}

/// The definition a schema refers to, bare or inside of `allOf`.
fn reference(schema: &Value) -> Option<&str> {
    let bare = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?;
    bare.as_str()?.rsplit('/').next()
}

/// A type in one word: `string`, `int32`, `[]T`, `{}T` for maps, `#name` for a definition, `any`.
fn type_expression(schema: &Value) -> Result<String> {
    if let Some(name) = reference(schema) {
        return Ok(format!("#{name}"));
    }
    let format = schema["format"].as_str().unwrap_or_default();
    if format == "int-or-string" {
        return Ok("intstr".to_owned());
    }
    if schema.get("oneOf").is_some() {
        return Ok("quantity".to_owned());
    }
    Ok(match (schema["type"].as_str(), format) {
        (None, _) => "any".to_owned(),
        (Some("string"), "byte") => "bytes".to_owned(),
        (Some("string"), "date-time") => "time".to_owned(),
        (Some("string"), "") => "string".to_owned(),
        (Some("integer"), "int32" | "int64") => format.to_owned(),
        (Some("number"), "double") => "double".to_owned(),
        (Some("boolean"), _) => "bool".to_owned(),
        (Some("array"), _) => format!("[]{}", type_expression(&schema["items"])?),
        (Some("object"), _) => match schema.get("additionalProperties") {
            Some(values) => format!("{{}}{}", type_expression(values)?),
            None => "object".to_owned(),
        },
        (Some(other), format) => bail!("unknown type {other} of format {format:?}"),
    })
}
