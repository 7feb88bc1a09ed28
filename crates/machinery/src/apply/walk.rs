//! What a value is to apply, by its schema: a leaf, an object or a list; and the set of its fields.

use serde_json::{Map, Value};

use super::path::PathElement;
use super::set::FieldSet;
use crate::schema::{List, ListKind, Schema, Shape};

/// How a value is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Atom {
    Scalar,
    List,
    Map,
}

/// By the schema; where that allows any JSON, by the value. Null and missing take any form.
pub(super) fn atom(schema: &Schema, value: Option<&Value>) -> Atom {
    match schema.shape() {
        Shape::Struct(_) | Shape::Map(_) => Atom::Map,
        Shape::List(_) => Atom::List,
        Shape::Any => match value {
            Some(Value::Array(_)) => Atom::List,
            Some(Value::Object(_) | Value::Null) | None => Atom::Map,
            Some(_) => Atom::Scalar,
        },
        _ => Atom::Scalar,
    }
}

/// Whether it is owned and merged as one value.
pub(super) fn is_leaf(schema: &Schema, atom: Atom) -> bool {
    match atom {
        Atom::Scalar => true,
        Atom::Map => schema.is_atomic(),
        Atom::List => schema.is_atomic() || associative(schema).is_none(),
    }
}

/// The list's type when its items are told apart.
pub(super) fn associative(schema: &Schema) -> Option<&List> {
    match schema.shape() {
        Shape::List(list) if list.kind != ListKind::Atomic => Some(list),
        _ => None,
    }
}

/// The schema of a field, and whether the type names it.
pub(super) fn field_of(schema: &Schema, name: &str) -> (Schema, bool) {
    match schema.shape() {
        Shape::Struct(object) => match object.fields.get(name) {
            Some(field) => (field.schema.clone(), true),
            None => (Schema::any(), false),
        },
        Shape::Map(map) => (map.values.clone(), false),
        _ => (below_any(schema), false),
    }
}

/// What lies in any JSON is any JSON too, and as atomic.
fn below_any(schema: &Schema) -> Schema {
    if schema.is_atomic() { Schema::any().with(|node| node.atomic = Some(true)) } else { Schema::any() }
}

/// What tells an item of an associative list apart.
pub(super) fn item_element(list: &List, item: &Value) -> Result<PathElement, String> {
    let ListKind::Map(keys) = &list.kind else {
        return match item {
            Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
            scalar => Ok(PathElement::Value(scalar.clone())),
        };
    };
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut key: Vec<(String, Value)> = Vec::with_capacity(keys.len());
    for name in keys {
        let value = fields.get(&**name).cloned().or_else(|| default_key(list, name));
        key.extend(value.map(|value| (name.to_string(), value)));
    }
    if key.is_empty() {
        let names: Vec<String> = keys.iter().map(|name| crate::go::quote(name)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    key.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(PathElement::Key(key))
}

/// What a key field that is missing stands for: its default, or in a built-in type the zero that Go holds for a
/// required one (upstream publishes those zeros as defaults).
fn default_key(list: &List, name: &str) -> Option<Value> {
    let Shape::Struct(object) = list.items.shape() else { return None };
    let field = object.fields.get(name)?;
    let declared = field.schema.default.clone().or_else(|| field.schema.resolve().default.clone());
    declared.or_else(|| match field.schema.shape() {
        _ if object.name.is_none() || !field.required => None,
        Shape::String => Some(Value::from("")),
        Shape::Integer { .. } => Some(Value::from(0)),
        _ => None,
    })
}

/// Adds the paths of what is merged as a whole.
pub(super) fn atomics(value: &Value, schema: &Schema, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            if schema.is_atomic() {
                found.push(path.clone());
            }
            for (name, below) in fields {
                path.push('.');
                path.push_str(name);
                atomics(below, &field_of(schema, name).0, path, found);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            let list = associative(schema);
            if list.is_none() {
                found.push(path.clone());
            }
            for (at, item) in items.iter().enumerate() {
                path.push_str(&format!("[{at}]"));
                atomics(item, &list.map_or_else(Schema::any, |list| list.items.clone()), path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// An object's fields; none for null or another kind of value.
pub(super) fn fields(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

/// A list's items; none for null or another kind of value.
pub(super) fn items(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}

/// All fields of a value that somebody can own.
pub fn field_set(value: &Value, schema: &Schema) -> FieldSet {
    let mut set = FieldSet::new();
    collect(value, schema, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, schema: &Schema, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    let atom = atom(schema, Some(value));
    if is_leaf(schema, atom) {
        set.insert(path);
        return;
    }
    match atom {
        Atom::Scalar => set.insert(path),
        Atom::Map => {
            for (name, field) in fields(Some(value)).into_iter().flatten() {
                let (below, named) = field_of(schema, name);
                path.push(PathElement::field(name));
                collect(field, &below, path, set);
                let empty = field.is_null() || field.as_object().is_some_and(Map::is_empty);
                if empty || !named {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Atom::List => {
            let (Some(list), Some(items)) = (associative(schema), items(Some(value))) else { return };
            let elements: Vec<Option<PathElement>> = items.iter().map(|item| item_element(list, item).ok()).collect();
            for (at, item) in items.iter().enumerate() {
                let Some(element) = elements[at].clone() else { continue };
                let repeated = elements.iter().filter(|other| other.as_ref() == Some(&element)).count() > 1;
                path.push(element);
                if !repeated {
                    collect(item, &list.items, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
    }
}
