//! Merging an applied configuration into the live object.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::path::PathElement;
use super::walk::{Atom, associative, atom, field_of, fields, is_leaf, item_element, items};
use crate::schema::{List, Schema};

/// The live object with the configuration's fields over it. The error names the list that cannot be merged.
pub(super) fn merge(live: &Value, config: &Value, schema: &Schema) -> Result<Value, String> {
    Ok(value(Some(live), Some(config), schema)?.unwrap_or(Value::Null))
}

fn value(left: Option<&Value>, right: Option<&Value>, schema: &Schema) -> Result<Option<Value>, String> {
    let decided = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
    let by = if decided(right) || !decided(left) { right } else { left };
    let atom = atom(schema, by);
    let empty = match atom {
        Atom::Scalar => true,
        Atom::Map => [left, right].iter().all(|side| fields(*side).is_none_or(Map::is_empty)),
        Atom::List => [left, right].iter().all(|side| items(*side).is_none_or(<[Value]>::is_empty)),
    };
    if empty || is_leaf(schema, atom) {
        return Ok(right.or(left).cloned());
    }
    match (atom, associative(schema)) {
        (Atom::Map, _) => merge_fields(left, right, schema),
        (Atom::List, Some(list)) => {
            merge_items(items(left).unwrap_or_default(), items(right).unwrap_or_default(), list)
        }
        _ => unreachable!("scalars and other lists are leaves"),
    }
}

fn merge_fields(left: Option<&Value>, right: Option<&Value>, schema: &Schema) -> Result<Option<Value>, String> {
    let (left, right) = (fields(left), fields(right));
    let names: BTreeSet<&String> = left.into_iter().chain(right).flat_map(Map::keys).collect();
    let mut out = Map::new();
    for name in names {
        let (below, _) = field_of(schema, name);
        let sides = (left.and_then(|side| side.get(name)), right.and_then(|side| side.get(name)));
        let merged = value(sides.0, sides.1, &below).map_err(|error| format!(".{name}{error}"))?;
        out.extend(merged.map(|merged| (name.clone(), merged)));
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

/// The items by element; live items that repeat merge with nothing.
type Index<'a> = BTreeMap<PathElement, Option<&'a Value>>;

fn index<'a>(items: &'a [Value], list: &List, repeats: bool) -> Result<(Vec<PathElement>, Index<'a>), String> {
    let mut elements = Vec::with_capacity(items.len());
    let mut found = Index::new();
    for (at, item) in items.iter().enumerate() {
        let element = item_element(list, item).map_err(|error| format!(": element {at}: {error}"))?;
        match found.get_mut(&element) {
            Some(_) if !repeats => return Err(format!(": duplicate entries for key {element}")),
            Some(first) => *first = None,
            None => {
                found.insert(element.clone(), Some(item));
            }
        }
        elements.push(element);
    }
    Ok((elements, found))
}

/// The configuration's order, with the live items that it does not name kept where they stood between those it does.
fn merge_items(left: &[Value], right: &[Value], list: &List) -> Result<Option<Value>, String> {
    let (left_elements, left_index) = index(left, list, true)?;
    let (right_elements, right_index) = index(right, list, false)?;
    let mut shared: VecDeque<&PathElement> =
        right_elements.iter().filter(|element| left_index.contains_key(element)).collect();
    let mut next_shared = shared.pop_front();
    let mut merged: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let item = |element: &PathElement, left: Option<&Value>, right: Option<&Value>| {
        value(left, right, &list.items).map_err(|error| format!("{element}{error}"))
    };
    let at =
        |index: &Index<'_>, element: &PathElement| -> Option<Value> { index.get(element).copied().flatten().cloned() };
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() {
            let element = &left_elements[l];
            if *element == right_elements[r] {
                merged.insert(element);
                out.extend(item(element, at(&left_index, element).as_ref(), at(&right_index, element).as_ref())?);
                l += 1;
                r += 1;
                next_shared = shared.pop_front();
                continue;
            }
            if right_index.contains_key(element) && next_shared.is_some_and(|next| next != element) {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            let element = &left_elements[l];
            if !right_index.contains_key(element) {
                out.extend(item(element, Some(&left[l]), None)?);
                l += 1;
                continue;
            }
            if merged.contains(element) {
                l += 1;
            }
        }
        if r < right.len() {
            let element = &right_elements[r];
            merged.insert(element);
            out.extend(item(element, at(&left_index, element).as_ref(), at(&right_index, element).as_ref())?);
            r += 1;
            if next_shared == Some(element) {
                next_shared = shared.pop_front();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}
