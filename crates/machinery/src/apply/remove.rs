//! Taking fields out of a value.

use serde_json::{Map, Value};

use super::path::PathElement;
use super::set::FieldSet;
use super::walk::{Atom, associative, atom, field_of, fields, is_leaf, item_element, items};
use crate::schema::Schema;

/// The value without the fields of `set`. Objects and lists of which nothing is left become null.
pub(super) fn remove(value: &Value, set: &FieldSet, schema: &Schema) -> Value {
    let atom = atom(schema, Some(value));
    if atom == Atom::Scalar {
        return value.clone();
    }
    if is_leaf(schema, atom) {
        return Value::Null;
    }
    match (atom, associative(schema)) {
        (Atom::Map, _) => {
            let mut out = Map::new();
            for (name, field) in fields(Some(value)).into_iter().flatten() {
                let element = PathElement::field(name);
                if set.has_member(&element) {
                    continue;
                }
                let (below, _) = field_of(schema, name);
                let kept = set.under(&element).map_or_else(|| field.clone(), |under| remove(field, under, &below));
                out.insert(name.clone(), kept);
            }
            if out.is_empty() { Value::Null } else { Value::Object(out) }
        }
        (_, Some(list)) => {
            let mut out = Vec::new();
            for item in items(Some(value)).into_iter().flatten() {
                let Ok(element) = item_element(list, item) else {
                    out.push(item.clone());
                    continue;
                };
                if set.has_member(&element) {
                    continue;
                }
                out.push(set.under(&element).map_or_else(|| item.clone(), |under| remove(item, under, &list.items)));
            }
            if out.is_empty() { Value::Null } else { Value::Array(out) }
        }
        _ => unreachable!("other lists are leaves"),
    }
}
