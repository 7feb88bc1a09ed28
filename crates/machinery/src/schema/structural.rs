//! Whether an `openAPIV3Schema` is structural: every value's shape is said once, outside of logic.
//!
//! `k8s.io/apiextensions-apiserver pkg/apiserver/schema/{validation,complete}.go` and
//! `pkg/apis/apiextensions/validation/validation.go`: the rules and their texts.

use serde_json::{Map, Value};

use super::re2;
use crate::field::{FieldError, FieldErrors, Path};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Every complaint about a schema, sorted as upstream sorts them.
pub(super) fn check(schema: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    supported(schema, path, &mut errors);
    invariants(schema, Level::Root, path, &mut errors);
    complete(schema, Some(schema), path, path, &mut errors);
    errors.0.sort_by_key(ToString::to_string);
    errors
}

fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or("")
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn fields<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema.get(name).and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn items<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// Keywords that no schema may use, anywhere.
fn supported(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(name).is_some() {
            errors.push(FieldError::forbidden(&path.child(name), format!("{name} is not supported")));
        }
    }
    let known = ["array", "boolean", "integer", "number", "object", "string"];
    match kind(schema) {
        "" => {}
        "null" => {
            let detail = "type cannot be set to null, use nullable as an alternative";
            errors.push(FieldError::forbidden(&path.child("type"), detail));
        }
        other if !known.contains(&other) => {
            errors.push(FieldError::not_supported(&path.child("type"), other, &known));
        }
        _ => {}
    }
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let path = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&path, false, "must be true or undefined"));
    }
    if let Some(additional) = schema.get("additionalProperties")
        && fields(schema, "properties").next().is_some()
        && *additional != Value::Bool(true)
    {
        let detail = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    lists_and_maps(schema, path, errors);
    for name in ["items", "not", "additionalProperties"] {
        match schema.get(name) {
            Some(Value::Array(_)) if name == "items" => {
                let detail = "items must be a schema object and not an array";
                errors.push(FieldError::forbidden(&path.child("items"), detail));
            }
            Some(below @ Value::Object(_)) => supported(below, &path.child(name), errors),
            _ => {}
        }
    }
    for (name, below) in fields(schema, "properties") {
        supported(below, &path.child("properties").key(name), errors);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        items(schema, name).for_each(|(at, below)| supported(below, &path.child(name).index(at), errors));
    }
}

/// `x-kubernetes-list-type`, its keys, and `x-kubernetes-map-type`.
fn lists_and_maps(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let needs_type = |wanted: &str, keyword: &str, errors: &mut FieldErrors| {
        let detail = format!("must be {wanted} if {keyword} is specified");
        match kind(schema) {
            "" => errors.push(FieldError::required(&path.child("type"), detail)),
            found if found != wanted => errors.push(FieldError::invalid(&path.child("type"), found, detail)),
            _ => {}
        }
    };
    if let Some(map_type) = text("x-kubernetes-map-type") {
        needs_type("object", "x-kubernetes-map-type", errors);
        if !matches!(map_type, "atomic" | "granular") {
            let path = path.child("x-kubernetes-map-type");
            errors.push(FieldError::not_supported(&path, map_type, &["atomic", "granular"]));
        }
    }
    let keys: Vec<&str> = items(schema, "x-kubernetes-list-map-keys").filter_map(|(_, key)| key.as_str()).collect();
    let list_type = text("x-kubernetes-list-type");
    if let Some(list_type) = list_type {
        needs_type("array", "x-kubernetes-list-type", errors);
        if !matches!(list_type, "atomic" | "set" | "map") {
            let path = path.child("x-kubernetes-list-type");
            errors.push(FieldError::not_supported(&path, list_type, &["atomic", "set", "map"]));
        }
    }
    if !keys.is_empty() && list_type != Some("map") {
        let path = path.child("x-kubernetes-list-type");
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list_type {
            None => FieldError::required(&path, detail),
            Some(other) => FieldError::invalid(&path, other, detail),
        });
    }
    if list_type == Some("map") {
        map_list(schema, &keys, path, errors);
    }
}

fn map_list(schema: &Value, keys: &[&str], path: &Path, errors: &mut FieldErrors) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let shown = || schema.get("x-kubernetes-list-map-keys").cloned().unwrap_or_default();
    if keys.is_empty() {
        errors.push(FieldError::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(below) = schema.get("items") else {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&path.child("items"), detail));
        return;
    };
    if kind(below) != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&path.child("items").child("type"), kind(below), detail));
        return;
    }
    for (at, key) in keys.iter().enumerate() {
        match below.get("properties").and_then(|properties| properties.get(*key)) {
            None => {
                errors.push(FieldError::invalid(&keys_path, shown(), "entries must all be names of item properties"));
            }
            Some(property) if matches!(kind(property), "array" | "object") => {
                let path = path.child("items").child("properties").key(key).child("type");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&path, kind(below), detail));
            }
            Some(_) => {}
        }
        if keys[..at].contains(key) {
            errors.push(FieldError::invalid(&keys_path, shown(), "must not contain duplicate entries"));
        }
    }
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut FieldErrors) {
    if kind(schema) == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(below) = schema.get("items") {
        invariants(below, Level::Item, &path.child("items"), errors);
    }
    for (name, below) in fields(schema, "properties") {
        invariants(below, Level::Field, &path.child("properties").key(name), errors);
    }
    if let Some(additional) = schema.get("additionalProperties") {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &path, errors);
        }
    }
    extensions(schema, path, errors);
    let (int_any, int_all) = int_or_string(schema);
    values(schema, int_any, int_all, path, errors);
    types(schema, level, path, errors);
    metadata(schema, level, path, errors);
}

fn extensions(schema: &Value, path: &Path, errors: &mut FieldErrors) {
    if !flag(schema, "x-kubernetes-int-or-string") {
        return;
    }
    for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if flag(schema, name) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(name), true, detail));
        }
    }
}

/// Whether `anyOf`, or the first of `allOf`, is the one exception: integer or string.
fn int_or_string(schema: &Value) -> (bool, bool) {
    let pattern = serde_json::json!([{"type": "integer"}, {"type": "string"}]);
    let any = schema.get("anyOf") == Some(&pattern);
    let all = schema.pointer("/allOf/0/anyOf") == Some(&pattern);
    (any, all)
}

fn types(schema: &Value, level: Level, path: &Path, errors: &mut FieldErrors) {
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    let free = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    let type_path = path.child("type");
    match kind(schema) {
        "" if embedded => {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(FieldError::required(&type_path, detail));
        }
        other if embedded && other != "object" => {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            errors.push(FieldError::invalid(&type_path, other, detail));
        }
        "" if !free => {
            let detail = match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            };
            errors.push(FieldError::required(&type_path, detail));
        }
        _ => {}
    }
    if embedded && schema.get("additionalProperties").is_some() {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&path.child("additionalProperties"), detail));
    }
    if level == Level::Root && !matches!(kind(schema), "" | "object") {
        errors.push(FieldError::invalid(&type_path, kind(schema), "must be object at the root"));
    }
    let empty = fields(schema, "properties").next().is_none();
    if embedded && empty && !flag(schema, "x-kubernetes-preserve-unknown-fields") {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

/// `kind` and `apiVersion` are strings, and `metadata` may only say something of names.
fn metadata(schema: &Value, level: Level, path: &Path, errors: &mut FieldErrors) {
    let checked = level == Level::Root || flag(schema, "x-kubernetes-embedded-resource");
    let property = |name: &str| schema.get("properties").and_then(|properties| properties.get(name));
    let path_of = |name: &str| path.child("properties").key(name);
    for name in ["kind", "apiVersion"] {
        if let Some(found) = property(name).filter(|found| checked && kind(found) != "string") {
            errors.push(FieldError::invalid(&path_of(name).child("type"), kind(found), "must be string"));
        }
    }
    let Some(found) = property("metadata") else { return };
    if checked && kind(found) != "object" {
        errors.push(FieldError::invalid(&path_of("metadata").child("type"), kind(found), "must be object"));
    }
    if level == Level::Root {
        let names_only = fields(found, "properties").all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
        let nothing_else =
            found.as_object().is_none_or(|found| found.keys().all(|key| matches!(key.as_str(), "type" | "properties")));
        if !names_only || !nothing_else {
            let detail =
                "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(FieldError::forbidden(&path_of("metadata"), detail));
        }
    }
}

/// The junctors of a schema, whose own schemas may check values but say nothing of shapes.
fn values(schema: &Value, skip_any: bool, skip_all_any: bool, path: &Path, errors: &mut FieldErrors) {
    if !skip_any {
        items(schema, "anyOf").for_each(|(at, below)| nested(below, false, &path.child("anyOf").index(at), errors));
    }
    for (at, below) in items(schema, "allOf") {
        nested(below, skip_all_any && at == 0, &path.child("allOf").index(at), errors);
    }
    items(schema, "oneOf").for_each(|(at, below)| nested(below, false, &path.child("oneOf").index(at), errors));
    if let Some(below) = schema.get("not") {
        nested(below, false, &path.child("not"), errors);
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Err(error) = re2::compile(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

fn nested(schema: &Value, skip_any: bool, path: &Path, errors: &mut FieldErrors) {
    values(schema, skip_any, false, path, errors);
    if let Some(below) = schema.get("items") {
        nested(below, false, &path.child("items"), errors);
    }
    for (name, below) in fields(schema, "properties") {
        nested(below, false, &path.child("properties").key(name), errors);
    }
    let absent = |name: &str, word: &str, errors: &mut FieldErrors| {
        let empty = match schema.get(name) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        if !empty {
            errors.push(FieldError::forbidden(&path.child(name), format!("must be {word} to be structural")));
        }
    };
    for (name, word) in [
        ("type", "empty"),
        ("additionalProperties", "undefined"),
        ("default", "undefined"),
        ("title", "empty"),
        ("description", "empty"),
        ("nullable", "false"),
        ("x-kubernetes-preserve-unknown-fields", "false"),
        ("x-kubernetes-embedded-resource", "false"),
        ("x-kubernetes-int-or-string", "false"),
        ("x-kubernetes-list-map-keys", "empty"),
        ("x-kubernetes-list-type", "undefined"),
        ("x-kubernetes-map-type", "undefined"),
        ("x-kubernetes-validations", "empty"),
    ] {
        absent(name, word, errors);
    }
    if schema.get("properties").is_some_and(|properties| properties.get("metadata").is_some()) {
        let path = path.child("properties").key("metadata");
        errors.push(FieldError::forbidden(&path, "must not be specified in a nested context"));
    }
}

/// What a check reaches must have a shape: `shape` is the schema that should say so.
fn complete(rules: &Value, shape: Option<&Value>, shape_path: &Path, path: &Path, errors: &mut FieldErrors) {
    let mut below = |rules: &Value, path: Path| {
        complete_nested(rules, shape, shape_path, &path, errors);
    };
    if let Some(rules) = rules.get("not") {
        below(rules, path.child("not"));
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        items(rules, name).for_each(|(at, rules)| below(rules, path.child(name).index(at)));
    }
    // Shapes themselves hold checks too.
    if path == shape_path {
        if let Some(rules) = rules.get("items") {
            complete(rules, Some(rules), &path.child("items"), &path.child("items"), errors);
        }
        for (name, rules) in fields(rules, "properties") {
            let path = path.child("properties").key(name);
            complete(rules, Some(rules), &path, &path, errors);
        }
    }
}

fn complete_nested(rules: &Value, shape: Option<&Value>, shape_path: &Path, path: &Path, errors: &mut FieldErrors) {
    let Some(shape) = shape else {
        errors.push(FieldError::required(shape_path, format!("because it is defined in {path}")));
        return;
    };
    complete(rules, Some(shape), shape_path, path, errors);
    if let Some(rules) = rules.get("items") {
        complete_nested(rules, shape.get("items"), &shape_path.child("items"), &path.child("items"), errors);
    }
    for (name, rules) in fields(rules, "properties") {
        let shape = shape.get("properties").and_then(|properties| properties.get(name));
        let (shape_path, path) = (shape_path.child("properties").key(name), path.child("properties").key(name));
        complete_nested(rules, shape, &shape_path, &path, errors);
    }
}
