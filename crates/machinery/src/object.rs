//! The metadata every object has, read from and written to its JSON tree, and the stored form of an object.
//!
//! A getter answers with the zero value (`""`, none) when the field is missing, as upstream's accessors do.

mod encoded;

use serde_json::{Map, Value};

use crate::gvk::GroupVersionKind;

pub use encoded::{Encoded, Unreadable};

/// `metadata`, when it is an object.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata").and_then(Value::as_object)
}

/// `metadata`, made when missing. The tree itself must be an object; anything else becomes one.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    entry(entry_root(object), "metadata")
}

fn entry_root(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    match object {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

fn entry<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    entry_root(map.entry(name).or_insert_with(|| Value::Object(Map::new())))
}

fn meta_str<'a>(object: &'a Value, name: &str) -> &'a str {
    metadata(object).and_then(|meta| meta.get(name)).and_then(Value::as_str).unwrap_or("")
}

/// Sets `metadata.<name>`, or removes it when `value` is empty.
pub fn set_metadata_str(object: &mut Value, name: &str, value: &str) {
    let meta = metadata_mut(object);
    if value.is_empty() {
        meta.remove(name);
    } else {
        meta.insert(name.to_owned(), Value::String(value.to_owned()));
    }
}

macro_rules! text_accessors {
    ($($get:ident $set:ident $name:literal),* $(,)?) => {$(
        #[doc = concat!("`metadata.", $name, "`.")]
        pub fn $get(object: &Value) -> &str {
            meta_str(object, $name)
        }
        #[doc = concat!("Sets `metadata.", $name, "`; empty removes it.")]
        pub fn $set(object: &mut Value, value: &str) {
            set_metadata_str(object, $name, value);
        }
    )*};
}
text_accessors! {
    name set_name "name",
    generate_name set_generate_name "generateName",
    namespace set_namespace "namespace",
    uid set_uid "uid",
    resource_version set_resource_version "resourceVersion",
    creation_timestamp set_creation_timestamp "creationTimestamp",
    deletion_timestamp set_deletion_timestamp "deletionTimestamp",
}

pub fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or("")
}

pub fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or("")
}

/// `apiVersion` and `kind` as a GroupVersionKind; none when the version cannot be read or the kind is missing.
pub fn gvk(object: &Value) -> Option<GroupVersionKind> {
    let kind = kind(object);
    if kind.is_empty() {
        return None;
    }
    crate::gvk::GroupVersion::parse(api_version(object)).ok().map(|version| version.kind(kind))
}

pub fn set_gvk(object: &mut Value, gvk: &GroupVersionKind) {
    let root = entry_root(object);
    root.insert("apiVersion".to_owned(), Value::String(gvk.group_version().to_string()));
    root.insert("kind".to_owned(), Value::String(gvk.kind.to_string()));
}

/// `metadata.generation`, 0 when missing.
pub fn generation(object: &Value) -> i64 {
    metadata(object).and_then(|meta| meta.get("generation")).and_then(Value::as_i64).unwrap_or(0)
}

pub fn set_generation(object: &mut Value, generation: i64) {
    metadata_mut(object).insert("generation".to_owned(), Value::from(generation));
}

/// Whether a deletion has begun.
pub fn is_being_deleted(object: &Value) -> bool {
    !deletion_timestamp(object).is_empty()
}

/// `metadata.deletionGracePeriodSeconds`.
pub fn deletion_grace_period_seconds(object: &Value) -> Option<i64> {
    metadata(object)?.get("deletionGracePeriodSeconds")?.as_i64()
}

/// `metadata.labels`, when there are any.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("labels")?.as_object()
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    labels(object)?.get(key)?.as_str()
}

pub fn labels_mut(object: &mut Value) -> &mut Map<String, Value> {
    entry(metadata_mut(object), "labels")
}

/// `metadata.annotations`, when there are any.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("annotations")?.as_object()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    annotations(object)?.get(key)?.as_str()
}

pub fn annotations_mut(object: &mut Value) -> &mut Map<String, Value> {
    entry(metadata_mut(object), "annotations")
}

/// `metadata.finalizers`, those that are strings.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let list = metadata(object).and_then(|meta| meta.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// Sets `metadata.finalizers`; none removes the field.
pub fn set_finalizers<S: Into<String>>(object: &mut Value, finalizers: impl IntoIterator<Item = S>) {
    let list: Vec<Value> = finalizers.into_iter().map(|finalizer| Value::String(finalizer.into())).collect();
    let meta = metadata_mut(object);
    if list.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), Value::Array(list));
    }
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    let list = metadata(object).and_then(|meta| meta.get("ownerReferences")).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The owner reference with `controller: true`.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// A value at a path of plain field names, as `["spec", "replicas"]`.
pub fn at<'a>(object: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(*name))
}

/// Puts a value at a path of plain field names; objects on the way are made.
pub fn put(object: &mut Value, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else {
        *object = value;
        return;
    };
    let map = parents.iter().fold(entry_root(object), |map, name| entry(map, name));
    map.insert((*last).to_owned(), value);
}

/// Takes a value away from a path of plain field names.
pub fn take(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(object, |value, name| value.get_mut(*name))?;
    parent.as_object_mut()?.remove(*last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_and_writes_metadata() {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}});
        assert_eq!(name(&object), "a");
        assert_eq!(namespace(&object), "");
        set_namespace(&mut object, "default");
        set_finalizers(&mut object, ["x/y"]);
        labels_mut(&mut object).insert("k".into(), json!("v"));
        assert_eq!(label(&object, "k"), Some("v"));
        assert_eq!(finalizers(&object).collect::<Vec<_>>(), ["x/y"]);
        set_finalizers(&mut object, Vec::<String>::new());
        assert!(metadata(&object).unwrap().get("finalizers").is_none());
        assert_eq!(gvk(&object).unwrap().to_string(), "apps/v1, Kind=Deployment");
        put(&mut object, &["spec", "replicas"], json!(2));
        assert_eq!(at(&object, &["spec", "replicas"]), Some(&json!(2)));
        assert_eq!(take(&mut object, &["spec", "replicas"]), Some(json!(2)));
        assert_eq!(at(&object, &["spec", "replicas"]), None);
    }

    #[test]
    fn finds_the_controller() {
        let object = json!({"metadata": {"ownerReferences": [{"uid": "1"}, {"uid": "2", "controller": true}]}});
        assert_eq!(controller_of(&object).unwrap()["uid"], "2");
        assert_eq!(owner_references(&json!({})).len(), 0);
    }
}
