//! Strategic merge patch: a merge patch that knows how a type's lists merge.
//!
//! `k8s.io/apimachinery pkg/util/strategicpatch/patch.go`: the directives (`$patch`, `$retainKeys`,
//! `$setElementOrder/..`, `$deleteFromPrimitiveList/..`), the order of merged lists, and the errors. What a list
//! merges by comes from the schema ([`crate::schema::Patch`]).

mod lists;

use serde_json::{Map, Value};

use super::unprocessable;
use crate::go;
use crate::schema::{Patch, Schema};
use crate::status::Status;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Applies `patch` to `object`, whose type `schema` is.
pub fn apply(object: &Value, patch: &Value, schema: &Schema) -> Result<Value, Status> {
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(Error::BadDocument.into());
    };
    let merged = merge_objects(original.clone(), patch.clone(), schema)?;
    Ok(Value::Object(merged))
}

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("invalid JSON document")]
    BadDocument,
    #[error("invalid patch format of primitive list")]
    BadPrimitiveList,
    #[error("invalid patch format of retainKeys")]
    BadRetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    BadElementOrder,
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// What upstream has no answer of its own for, and so reports as an internal error.
    #[error("{0}")]
    Other(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::BadDocument | Error::BadPrimitiveList | Error::BadRetainKeys | Error::BadElementOrder => {
                Status::bad_request(error.to_string())
            }
            Error::ListOfLists => unprocessable(),
            Error::Other(text) => Status::failure(500, "", text),
        }
    }
}

fn bad_directive(directive: &Value, patch: &Object) -> Error {
    let mut whole = patch.clone();
    whole.insert(DIRECTIVE.to_owned(), directive.clone());
    Error::Other(format!("unknown patch type: {} in map: {}", go::plain(directive), go::plain(&Value::Object(whole))))
}

fn no_merge_key(item: &Value, key: &str) -> Error {
    Error::Other(format!("map: {} does not contain declared merge key: {key}", go::plain(item)))
}

/// How a field's list or object is patched: by what the field says, else its type.
fn patch_of(schema: &Schema) -> &Patch {
    let own = &schema.patch;
    if *own == Patch::default() { &schema.resolve().patch } else { own }
}

/// A field's schema; any JSON where the type has no such field.
fn field_of(schema: &Schema, name: &str) -> Schema {
    schema.field(name).cloned().unwrap_or_else(Schema::any)
}

fn merge_objects(mut original: Object, mut patch: Object, schema: &Schema) -> Result<Object, Error> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => Err(bad_directive(&directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order_elements(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        if key.starts_with(DELETE_PRIMITIVES) {
            let name = key.strip_prefix(DELETE_PRIMITIVES).and_then(|rest| rest.strip_prefix('/'));
            delete_primitives(&mut original, name.ok_or(Error::BadPrimitiveList)?, value)?;
        } else {
            merge_field(&mut original, key, value, schema)?;
        }
    }
    Ok(original)
}

fn merge_field(original: &mut Object, key: String, value: Value, schema: &Schema) -> Result<(), Error> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let known = field_of(schema, &key);
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            Some(Value::Object(if patch_of(&known).replace { new } else { merge_objects(old, new, &known)? }))
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let merged = if patch_of(&known).merge { lists::merge(old, new, &known)? } else { new };
            Some(Value::Array(merged))
        }
        (_, mut value) => {
            discard_nulls(&mut value);
            without_directives(value)
        }
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

/// `$deleteFromPrimitiveList/name`: takes values out of a list of scalars.
fn delete_primitives(original: &mut Object, name: &str, values: Value) -> Result<(), Error> {
    let Value::Array(values) = values else { return Err(Error::BadPrimitiveList) };
    if let Some(Value::Array(list)) = original.get_mut(name) {
        list.retain(|item| !values.contains(item));
    }
    Ok(())
}

/// `$retainKeys`: only the named fields survive, and the patch may name no other.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(Error::BadRetainKeys) };
    let named = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let is_list_directive = |name: &str| name.starts_with(DELETE_PRIMITIVES) || name.starts_with(ELEMENT_ORDER);
    for (name, value) in patch.iter() {
        if !value.is_null() && !is_list_directive(name) && !named(name) {
            return Err(Error::BadRetainKeys);
        }
    }
    original.retain(|name, _| named(name));
    Ok(())
}

/// `$setElementOrder/name`: merges the list `name` and gives it that order.
fn order_elements(original: &mut Object, patch: &mut Object, schema: &Schema) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = patch.remove(&directive);
        let name = directive.strip_prefix(ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/'));
        let (Some(name), Some(Value::Array(order))) = (name, order) else { return Err(Error::BadElementOrder) };
        let known = field_of(schema, name);
        let old = list_at(original, name)?;
        let new = list_at(patch, name)?;
        if old.is_none() && new.is_none() {
            continue;
        }
        let key = patch_of(&known).merge_key.clone();
        lists::check_order(new.as_deref().unwrap_or_default(), &order, key.as_deref())?;
        let merged = match (old.clone(), new) {
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) if patch_of(&known).merge => lists::merge(old, new, &known)?,
            (_, new) => new.unwrap_or_default(),
        };
        let ordered = lists::ordered(merged, &order, old.as_deref().unwrap_or_default(), key.as_deref())?;
        original.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// Takes a list out of an object; it is an error when the field is something else.
fn list_at(object: &mut Object, name: &str) -> Result<Option<Vec<Value>>, Error> {
    match object.remove(name) {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(Value::Null) => Ok(None),
        Some(other) => {
            let kind = match other {
                Value::Object(_) => "map",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            Err(Error::Other(format!("expected a slice, but received a {kind}")))
        }
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(discard_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// What is new is taken as it is, but objects that hold a `$patch` are none.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => Some(Value::Object(
            fields.into_iter().filter_map(|(name, field)| Some((name, without_directives(field)?))).collect(),
        )),
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests;
