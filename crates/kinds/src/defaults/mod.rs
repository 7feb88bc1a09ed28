//! Defaults that depend on other values, for types used in several kinds; a kind's own stand in the kind's file.
//!
//! `kubernetes/kubernetes pkg/apis/*/v1/defaults.go`: which values. A rule sees the object as it came; an outer
//! object's rule runs before those of the objects in it.

mod pod_spec;
mod types;

use serde_json::{Map, Value};

use crate::facts::is_zero;

pub use pod_spec::image_is_latest;

/// A rule on an object of one type.
pub type Rule = fn(&mut Fields);
/// An object's fields.
pub type Fields = Map<String, Value>;

/// The rule of a definition, if it has one.
pub fn of_type(definition: &str) -> Option<Rule> {
    let (package, name) = definition.rsplit_once('.')?;
    pod_spec::rule(package, name).or_else(|| types::rule(package, name))
}

/// Sets a field that is a value in Go: its zero counts as missing.
pub fn set_unset(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if fields.get(name).is_none_or(is_zero) {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets a field that is a pointer in Go: only a missing one is missing.
pub fn set_missing(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if is_missing(fields, name) {
        fields.insert(name.to_owned(), value.into());
    }
}

pub fn is_missing(fields: &Fields, name: &str) -> bool {
    matches!(fields.get(name), None | Some(Value::Null))
}

/// A field's text; empty when it is missing.
pub fn text_of<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A nested object, made when it is missing; none when something else is in its place.
pub fn nested<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    if is_missing(fields, name) {
        fields.insert(name.to_owned(), Value::Object(Map::new()));
    }
    fields.get_mut(name)?.as_object_mut()
}

/// A nested object that is there.
pub fn existing<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name)?.as_object_mut()
}

/// The objects of a list.
pub fn objects<'a>(fields: &'a mut Fields, name: &str) -> impl Iterator<Item = &'a mut Fields> {
    fields.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Copies the entries a map lacks from another.
pub fn fill_map(fields: &mut Fields, name: &str, from: &Fields) {
    if let Some(into) = nested(fields, name) {
        for (key, value) in from {
            into.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
}
