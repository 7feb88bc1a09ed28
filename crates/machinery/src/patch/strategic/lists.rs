//! Merging lists: of scalars by value, of objects by their merge key; and the order that comes out.

use serde_json::Value;

use super::{DIRECTIVE, Error, bad_directive, merge_objects, no_merge_key, patch_of};
use crate::schema::Schema;

/// Merges the items of `patch` into `original` for a list with the `merge` strategy.
pub(super) fn merge(original: Vec<Value>, patch: Vec<Value>, schema: &Schema) -> Result<Vec<Value>, Error> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let objects = items_are_objects(&original, &patch)?;
    if !objects {
        let order = original.clone();
        let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
        for item in original.into_iter().chain(patch.iter().cloned()) {
            if !merged.contains(&item) {
                merged.push(item);
            }
        }
        return ordered(merged, &patch, &order, None);
    }
    let Some(key) = patch_of(schema).merge_key.clone() else {
        return Err(Error::Other("cannot merge lists without merge key".to_owned()));
    };
    let (original, patch) = obey_directives(original, patch, &key)?;
    let order = original.clone();
    let merged = merge_items(original, &patch, &key, schema)?;
    ordered(merged, &patch, &order, Some(&key))
}

/// Whether the items are objects; all must be of one type, and none a list.
fn items_are_objects(original: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut kinds = original.iter().chain(patch).map(std::mem::discriminant);
    let first = kinds.next();
    if matches!(original.iter().chain(patch).next(), Some(Value::Array(_))) {
        return Err(Error::ListOfLists);
    }
    if kinds.any(|kind| Some(kind) != first) {
        let shown = crate::go::plain(&Value::Array(original.iter().chain(patch).cloned().collect()));
        return Err(Error::Other(format!("list element types are not identical: {shown}")));
    }
    Ok(matches!(original.iter().chain(patch).next(), Some(Value::Object(_))))
}

/// Items with `$patch: delete` or `$patch: replace`; gives both lists without them.
fn obey_directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut kept = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            kept.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let wanted = item.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                original.retain(|old| old.get(key) != Some(wanted));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(Error::Other("merging lists cannot yet be specified in the patch".to_owned()));
            }
            _ => {
                let fields = item.as_object().cloned().unwrap_or_default();
                return Err(bad_directive(directive, &fields));
            }
        }
    }
    Ok(if replace { (kept, Vec::new()) } else { (original, kept) })
}

fn merge_items(mut original: Vec<Value>, patch: &[Value], key: &str, schema: &Schema) -> Result<Vec<Value>, Error> {
    let items = schema.items().cloned().unwrap_or_else(Schema::any);
    for item in patch {
        let wanted = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        match original.iter_mut().find(|old| old.get(key) == Some(wanted)) {
            Some(Value::Object(old)) => {
                let new = item.as_object().cloned().unwrap_or_default();
                *old = merge_objects(std::mem::take(old), new, &items)?;
            }
            // Upstream appends a new item as it is, directives in it and all.
            _ => original.push(item.clone()),
        }
    }
    Ok(original)
}

/// What tells two items apart.
fn identity<'a>(item: &'a Value, key: Option<&str>) -> &'a Value {
    const NONE: &Value = &Value::Null;
    match key {
        Some(key) => item.get(key).unwrap_or(NONE),
        None => item,
    }
}

fn position(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    list.iter().position(|other| identity(other, key) == identity(item, key))
}

/// Gives `merged` its order: what `patch_order` names in that order, the rest in `server_order`, woven together so
/// that what stood before a named item in `server_order` still does.
pub(super) fn ordered(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: Option<&str>,
) -> Result<Vec<Value>, Error> {
    if let Some(key) = key
        && let Some(item) = merged.iter().find(|item| item.get(key).is_none())
    {
        return Err(no_merge_key(item, key));
    }
    let (mut named, mut rest): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(patch_order, item, key).is_some());
    named.sort_by_key(|item| position(patch_order, item, key));
    rest.sort_by_key(|item| position(server_order, item, key).unwrap_or(usize::MAX));

    let mut out = Vec::with_capacity(named.len() + rest.len());
    let (mut left, mut right) = (rest.into_iter().peekable(), named.into_iter().peekable());
    while let (Some(server), Some(patched)) = (left.peek(), right.peek()) {
        let places = (position(server_order, server, key), position(server_order, patched, key));
        let server_first = matches!(places, (Some(server), Some(patched)) if server < patched);
        out.extend(if server_first { left.next() } else { right.next() });
    }
    out.extend(left);
    out.extend(right);
    Ok(out)
}

/// The items of a patched list must stand in `$setElementOrder`, in the same order.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if order.is_empty() {
        return Ok(());
    }
    let mut places = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        if !places.any(|place| identity(place, key) == identity(item, key)) {
            let (patch, order) = (crate::go::plain(&patch.into()), crate::go::plain(&order.into()));
            return Err(Error::Other(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
    }
    Ok(())
}
