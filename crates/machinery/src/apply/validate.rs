//! Whether a configuration fits its schema at all, in the words of structured-merge-diff.

use std::collections::BTreeSet;

use serde_json::Value;

use super::walk::{Atom, associative, atom, field_of, item_element};
use crate::schema::{Schema, Shape};

/// Every complaint, as upstream joins them.
pub(super) fn validate(value: &Value, schema: &Schema) -> Result<(), String> {
    checked(value, schema, false)
}

/// Whether the fields of an object can be told apart at all. An object may repeat items, a configuration may not.
pub(super) fn has_fields(value: &Value, schema: &Schema) -> bool {
    checked(value, schema, true).is_ok()
}

struct Complaints {
    texts: Vec<String>,
    may_repeat: bool,
}

fn checked(value: &Value, schema: &Schema, may_repeat: bool) -> Result<(), String> {
    let mut errors = Complaints { texts: Vec::new(), may_repeat };
    check(value, schema, "", &mut errors);
    let errors = errors.texts;
    match errors.as_slice() {
        [] => Ok(()),
        [error] => Err(error.clone()),
        _ => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

fn complain(path: &str, text: &str, errors: &mut Complaints) {
    errors.texts.push(if path.is_empty() { text.to_owned() } else { format!("{path}: {text}") });
}

fn check(value: &Value, schema: &Schema, path: &str, errors: &mut Complaints) {
    if value.is_null() {
        return;
    }
    match (atom(schema, Some(value)), value) {
        (Atom::Scalar, value) => {
            if let Some(text) = wrong_scalar(value, schema) {
                complain(path, &text, errors);
            }
        }
        (Atom::Map, Value::Object(fields)) => {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                let (below, named) = field_of(schema, name);
                if !named && matches!(schema.shape(), Shape::Struct(_)) && !takes_unknown(schema) {
                    complain(&path, "field not declared in schema", errors);
                    continue;
                }
                check(field, &below, &path, errors);
            }
        }
        (Atom::List, Value::Array(items)) => check_items(items, schema, path, errors),
        (Atom::Map, other) => complain(path, &format!("expected map, got {}", shown(other)), errors),
        (Atom::List, other) => complain(path, &format!("expected list, got {}", shown(other)), errors),
    }
}

/// An object without named fields is free in form, as one that preserves what it is given.
fn takes_unknown(schema: &Schema) -> bool {
    schema.preserves_unknown() || matches!(schema.shape(), Shape::Struct(object) if object.fields.is_empty())
}

fn check_items(items: &[Value], schema: &Schema, path: &str, errors: &mut Complaints) {
    let below = schema.items().cloned().unwrap_or_else(Schema::any);
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let element = match associative(schema) {
            None => format!("[{at}]"),
            Some(list) => match item_element(list, item) {
                Ok(element) => {
                    let text = element.to_string();
                    if !seen.insert(element) && !errors.may_repeat {
                        complain(path, &format!("duplicate entries for key {text}"), errors);
                    }
                    text
                }
                Err(error) => return complain(path, &format!("element {at}: {error}"), errors),
            },
        };
        check(item, &below, &format!("{path}{element}"), errors);
    }
}

fn wrong_scalar(value: &Value, schema: &Schema) -> Option<String> {
    let wanted = match schema.shape() {
        Shape::Integer { .. } | Shape::Number if !value.is_number() => {
            return Some(format!("expected numeric (int or float), got {}", go_kind(value)));
        }
        Shape::String | Shape::Bytes if !value.is_string() => "string",
        Shape::Boolean if !value.is_boolean() => "boolean",
        _ if value.is_array() || value.is_object() => "any scalar",
        _ => return None,
    };
    Some(format!("expected {wanted}, got {}", shown(value)))
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::Null => "<nil>",
    }
}

fn shown(value: &Value) -> String {
    let inner = match value {
        Value::String(text) => crate::go::quote(text),
        other => other.to_string(),
    };
    format!("&value.valueUnstructured{{Value:{inner}}}")
}
