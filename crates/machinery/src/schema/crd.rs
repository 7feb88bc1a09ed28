//! A CustomResourceDefinition's `openAPIV3Schema` to a [`Schema`].
//!
//! `k8s.io/apiextensions-apiserver pkg/apiserver/schema/convert.go`: what becomes of each keyword. Whether the schema
//! may be used at all is [`super::structural`]'s question, asked first.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map as Object, Value};

use super::node::{Field, List, ListKind, Map, Node, Schema, Shape, Struct};
use super::rule::Rule;
use super::validation::Validation;
use super::{re2, structural};
use crate::cel;
use crate::field::{FieldError, FieldErrors, Path};

/// Reads a schema; `path` is where it stands in the CustomResourceDefinition, for its errors.
pub fn parse(schema: &Value, path: &Path) -> Result<Schema, FieldErrors> {
    structural::check(schema, path).into_result()?;
    let parsed = node(schema);
    check_defaults(&parsed, schema, path).into_result()?;
    cel::check_rules(&parsed, path).into_result()?;
    Ok(parsed)
}

impl Schema {
    /// A custom resource's schema with the fields every object has: `apiVersion`, `kind` and `metadata`, whose own
    /// schema is given.
    #[must_use]
    pub fn with_object_meta(&self, metadata: &Schema) -> Schema {
        self.with(|node| {
            let Shape::Struct(object) = &mut node.shape else { return };
            for (name, schema) in
                [("apiVersion", Schema::string()), ("kind", Schema::string()), ("metadata", metadata.clone())]
            {
                object.fields.insert(name.into(), Field { schema, required: false });
            }
        })
    }
}

fn text(schema: &Value, name: &str) -> Option<Arc<str>> {
    schema.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(Arc::from)
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn number(schema: &Value, name: &str) -> Option<f64> {
    schema.get(name).and_then(Value::as_f64)
}

fn count(schema: &Value, name: &str) -> Option<u64> {
    // A negative bound holds nothing, as does zero.
    schema.get(name).and_then(Value::as_i64).map(|count| u64::try_from(count).unwrap_or(0))
}

fn list<'a>(schema: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn properties(schema: &Value) -> Option<&Object<String, Value>> {
    schema.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty())
}

fn node(schema: &Value) -> Schema {
    let preserve_unknown = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let validation = validation(schema, false);
    Schema::from(Node {
        shape: shape(schema, preserve_unknown),
        description: text(schema, "description"),
        default: schema.get("default").cloned(),
        nullable: flag(schema, "nullable"),
        allowed: list(schema, "enum").cloned().collect(),
        format: text(schema, "format"),
        atomic: schema.get("x-kubernetes-map-type").and_then(Value::as_str).map(|map_type| map_type == "atomic"),
        preserve_unknown,
        embedded_resource: flag(schema, "x-kubernetes-embedded-resource"),
        validation: Some(Arc::new(validation)),
        rules: list(schema, "x-kubernetes-validations").map(rule).collect(),
        ..Node::default()
    })
}

fn shape(schema: &Value, preserve_unknown: bool) -> Shape {
    if flag(schema, "x-kubernetes-int-or-string") {
        return Shape::IntOrString;
    }
    match schema.get("type").and_then(Value::as_str).unwrap_or("") {
        "object" => object(schema),
        "array" => {
            Shape::List(List { items: schema.get("items").map_or_else(Schema::any, node), kind: list_kind(schema) })
        }
        "string" => Shape::String,
        "integer" => {
            let bits = if schema.get("format").and_then(Value::as_str) == Some("int32") { 32 } else { 64 };
            Shape::Integer { bits, unsigned: false }
        }
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        _ if preserve_unknown && properties(schema).is_some() => object(schema),
        _ => Shape::Any,
    }
}

fn object(schema: &Value) -> Shape {
    match (properties(schema), schema.get("additionalProperties")) {
        (Some(properties), _) => {
            let required: Vec<&str> = list(schema, "required").filter_map(Value::as_str).collect();
            let field = |(name, schema): (&String, &Value)| {
                let required = required.contains(&name.as_str());
                (Arc::from(name.as_str()), Field { schema: node(schema), required })
            };
            Shape::Struct(Struct { name: None, fields: properties.iter().map(field).collect() })
        }
        (None, Some(values @ Value::Object(_))) => Shape::Map(Map { values: node(values) }),
        (None, Some(Value::Bool(true))) => Shape::Map(Map { values: Schema::any() }),
        _ => Shape::Struct(Struct::default()),
    }
}

fn list_kind(schema: &Value) -> ListKind {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            ListKind::Map(list(schema, "x-kubernetes-list-map-keys").filter_map(Value::as_str).map(Arc::from).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn rule(rule: &Value) -> Rule {
    Rule {
        rule: text(rule, "rule").unwrap_or_default(),
        message: text(rule, "message"),
        message_expression: text(rule, "messageExpression"),
        reason: text(rule, "reason"),
        field_path: text(rule, "fieldPath"),
        optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
    }
}

/// The value checks. `nested` ones (inside of junctors) reach into fields and items themselves.
fn validation(schema: &Value, nested: bool) -> Validation {
    let all = |name: &str| list(schema, name).map(|schema| validation(schema, true)).collect();
    let pattern = text(schema, "pattern").and_then(|pattern| Some((pattern.clone(), re2::compile(&pattern).ok()?)));
    let mut out = Validation {
        format: text(schema, "format"),
        minimum: number(schema, "minimum"),
        maximum: number(schema, "maximum"),
        exclusive_minimum: flag(schema, "exclusiveMinimum"),
        exclusive_maximum: flag(schema, "exclusiveMaximum"),
        multiple_of: number(schema, "multipleOf"),
        min_length: count(schema, "minLength"),
        max_length: count(schema, "maxLength"),
        pattern,
        min_items: count(schema, "minItems"),
        max_items: count(schema, "maxItems"),
        unique_items: flag(schema, "uniqueItems"),
        min_properties: count(schema, "minProperties"),
        max_properties: count(schema, "maxProperties"),
        allowed: list(schema, "enum").cloned().collect(),
        required: list(schema, "required").filter_map(Value::as_str).map(Arc::from).collect(),
        all_of: all("allOf"),
        any_of: all("anyOf"),
        one_of: all("oneOf"),
        not: schema.get("not").map(|schema| Box::new(validation(schema, true))),
        ..Validation::default()
    };
    if nested {
        let fields = properties(schema).into_iter().flatten();
        out.properties = fields
            .map(|(name, schema)| (Arc::from(name.as_str()), validation(schema, true)))
            .collect::<IndexMap<_, _>>();
        let additional = schema.get("additionalProperties").filter(|schema| schema.is_object());
        out.additional_properties = additional.map(|schema| Box::new(validation(schema, true)));
        out.items = schema.get("items").map(|schema| Box::new(validation(schema, true)));
        out.type_name = text(schema, "type");
    }
    out
}

/// Every default must be a value of its own schema.
fn check_defaults(schema: &Schema, source: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(default) = &schema.default {
        let path = path.child("default");
        let mut kept = default.clone();
        let unknown = schema.prune(&mut kept);
        if !unknown.is_empty() {
            errors.push(FieldError::invalid(&path, default, "must not have unknown fields"));
        }
        schema.default(&mut kept);
        for mut error in schema.validate(&kept, None) {
            error.field = match error.field.as_str() {
                "<nil>" => path.to_string(),
                inner => format!("{path}.{inner}"),
            };
            errors.push(error);
        }
    }
    let below = |name: &str| source.get(name);
    match &schema.shape {
        Shape::Struct(object) => {
            for (name, field) in &object.fields {
                if let Some(source) = below("properties").and_then(|properties| properties.get(&**name)) {
                    errors.extend(check_defaults(&field.schema, source, &path.child("properties").key(name)));
                }
            }
        }
        Shape::Map(map) => {
            if let Some(source) = below("additionalProperties") {
                errors.extend(check_defaults(&map.values, source, &path.child("additionalProperties")));
            }
        }
        Shape::List(list) => {
            if let Some(source) = below("items") {
                errors.extend(check_defaults(&list.items, source, &path.child("items")));
            }
        }
        _ => {}
    }
    errors
}

#[cfg(test)]
mod tests;
