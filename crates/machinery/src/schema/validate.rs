//! Validation of a whole custom resource by its schema: types, checks, and lists whose items must differ.
//!
//! `k8s.io/apiextensions-apiserver pkg/apiserver/validation` (with ratcheting: what an update leaves as it was is
//! not checked again) and `pkg/apiserver/schema/listtype`.

use serde_json::{Map, Value};

use super::checks::{self, Outcome};
use super::node::{List, ListKind, Schema, Shape};
use crate::field::{FieldError, FieldErrors, Path};

impl Schema {
    /// Every error of a value; `old` is what an update replaces.
    pub fn validate(&self, value: &Value, old: Option<&Value>) -> FieldErrors {
        let mut out = Outcome::default();
        walk(self, value, old, "", &mut out);
        let mut errors = FieldErrors(out.errors);
        unique_items(self, value, &Path::ROOT, &mut errors);
        errors
    }
}

/// The OpenAPI type names a shape takes, as messages join them; none for any.
fn type_names(schema: &Schema) -> &'static str {
    match schema.shape() {
        Shape::Any | Shape::Ref(_) => "",
        Shape::Struct(_) | Shape::Map(_) => "object",
        Shape::List(_) => "array",
        Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime | Shape::Duration => "string",
        Shape::Quantity | Shape::IntOrString => "integer,string",
        Shape::Integer { .. } => "integer",
        Shape::Number => "number",
        Shape::Boolean => "boolean",
    }
}

fn walk(schema: &Schema, value: &Value, old: Option<&Value>, place: &str, out: &mut Outcome) {
    if old == Some(value) {
        return;
    }
    let wanted = type_names(schema);
    let fits = wanted.is_empty()
        || (value.is_null() && schema.is_nullable())
        || wanted.split(',').any(|name| checks::is_of_type(value, name));
    if !fits {
        out.errors.push(checks::wrong_type(place, wanted, checks::type_of(value)));
    }
    if let Some(rules) = schema.validation.as_ref().or(schema.resolve().validation.as_ref()) {
        out.merge(checks::check(rules, value, place));
    }
    match (schema.shape(), value) {
        (Shape::Struct(object), Value::Object(fields)) => {
            for (name, field) in &object.fields {
                if let Some(value) = fields.get(&**name) {
                    let old = old.and_then(|old| old.get(&**name));
                    walk(&field.schema, value, old, &checks::child(place, name), out);
                }
            }
        }
        (Shape::Map(map), Value::Object(fields)) => {
            for (name, value) in fields {
                let old = old.and_then(|old| old.get(name));
                walk(&map.values, value, old, &checks::child(place, name), out);
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            let old_items = old.and_then(Value::as_array);
            for (at, item) in items.iter().enumerate() {
                let old = old_items.and_then(|old| correlated(list, item, old));
                walk(&list.items, item, old, &format!("{place}[{at}]"), out);
            }
        }
        _ => {}
    }
}

/// The old item that is this item's former self: by its keys, and only in lists that have some.
fn correlated<'a>(list: &List, item: &Value, old: &'a [Value]) -> Option<&'a Value> {
    match &list.kind {
        ListKind::Map(keys) => old.iter().find(|old| keys.iter().all(|key| old.get(&**key) == item.get(&**key))),
        ListKind::Atomic | ListKind::Set => None,
    }
}

/// Sets hold each value once, maps each key.
fn unique_items(schema: &Schema, value: &Value, path: &Path, errors: &mut FieldErrors) {
    match (schema.shape(), value) {
        (Shape::Struct(object), Value::Object(fields)) => {
            for (name, value) in fields {
                if let Some(field) = object.fields.get(name.as_str()) {
                    unique_items(&field.schema, value, &path.child(name), errors);
                }
            }
        }
        (Shape::Map(map), Value::Object(fields)) => {
            fields.iter().for_each(|(name, value)| unique_items(&map.values, value, &path.key(name), errors));
        }
        (Shape::List(list), Value::Array(items)) => {
            match &list.kind {
                ListKind::Atomic => {}
                ListKind::Set => repeated(items, items, path, errors),
                ListKind::Map(keys) => {
                    if let Some(at) = items.iter().position(|item| !item.is_object() && !item.is_null()) {
                        let detail = "must be an object for an array of list-type map";
                        errors.push(FieldError::invalid(&path.index(at), &items[at], detail));
                    } else {
                        let identities: Vec<Value> = items.iter().map(|item| identity(item, keys)).collect();
                        repeated(&identities, items, path, errors);
                    }
                }
            }
            for (at, item) in items.iter().enumerate() {
                unique_items(&list.items, item, &path.index(at), errors);
            }
        }
        _ => {}
    }
}

fn identity(item: &Value, keys: &[std::sync::Arc<str>]) -> Value {
    let fields = keys.iter().filter_map(|key| Some((key.to_string(), item.get(&**key)?.clone())));
    Value::Object(fields.collect::<Map<String, Value>>())
}

/// One error for each value that repeats, at its second place.
fn repeated(identities: &[Value], items: &[Value], path: &Path, errors: &mut FieldErrors) {
    for (at, identity) in identities.iter().enumerate().take(items.len()) {
        if identities[..at].iter().filter(|earlier| *earlier == identity).count() == 1 {
            errors.push(FieldError::duplicate(&path.index(at), identity));
        }
    }
}
