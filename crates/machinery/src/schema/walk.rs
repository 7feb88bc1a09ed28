//! Defaulting and pruning: what a schema does to a value.
//!
//! `k8s.io/apiextensions-apiserver pkg/apiserver/schema/{defaulting,pruning}`: which defaults fill which holes, and
//! which fields are unknown.

use serde_json::{Map, Value};

use super::node::{Schema, Shape};
use crate::decode::{self, DecodeError, Problem};

impl Schema {
    /// Fills missing fields (and nulls where null is no value) from the schema's defaults, depth first.
    pub fn default(&self, value: &mut Value) {
        match (self.shape(), value) {
            (Shape::Struct(object), Value::Object(fields)) => {
                for (name, field) in &object.fields {
                    let Some(default) = field.schema.own_default() else { continue };
                    let hole = match fields.get(&**name) {
                        None => true,
                        Some(found) => found.is_null() && !field.schema.is_nullable(),
                    };
                    if hole {
                        fields.insert(name.to_string(), default.clone());
                    }
                }
                for (name, field) in fields.iter_mut() {
                    if let Some(known) = object.fields.get(name.as_str()) {
                        known.schema.default(field);
                    }
                }
            }
            (Shape::Map(map), Value::Object(fields)) => {
                fields.values_mut().for_each(|item| default_item(&map.values, item));
            }
            (Shape::List(list), Value::Array(items)) => {
                items.iter_mut().for_each(|item| default_item(&list.items, item));
            }
            _ => {}
        }
    }

    fn own_default(&self) -> Option<&Value> {
        self.default.as_ref().or(self.resolve().default.as_ref())
    }

    /// Whether null is a value of its own.
    pub fn is_nullable(&self) -> bool {
        self.nullable || self.resolve().nullable
    }

    /// Removes nulls that are no values and have no default, as upstream does to custom resources before
    /// defaulting.
    pub fn drop_nulls(&self, value: &mut Value) {
        match (self.shape(), value) {
            (Shape::Struct(object), Value::Object(fields)) => {
                fields.retain(|name, field| match object.fields.get(name.as_str()) {
                    Some(known) if field.is_null() => {
                        known.schema.is_nullable() || known.schema.own_default().is_some()
                    }
                    _ => true,
                });
                for (name, field) in fields.iter_mut() {
                    if let Some(known) = object.fields.get(name.as_str()) {
                        known.schema.drop_nulls(field);
                    }
                }
            }
            (Shape::Map(map), Value::Object(fields)) => {
                fields.retain(|_, item| {
                    !item.is_null() || map.values.is_nullable() || map.values.own_default().is_some()
                });
                fields.values_mut().for_each(|item| map.values.drop_nulls(item));
            }
            (Shape::List(list), Value::Array(items)) => items.iter_mut().for_each(|item| list.items.drop_nulls(item)),
            _ => {}
        }
    }

    /// Removes unknown fields of a whole object and gives their paths, sorted. The object's own `apiVersion`, `kind`
    /// and `metadata` stay.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut pruned = Vec::new();
        prune(object, self, true, &mut String::new(), &mut pruned);
        pruned.sort_unstable();
        pruned
    }

    /// What a typed decoder would complain of in a value: unknown fields, in its order.
    pub fn unknown_fields(&self, value: &Value) -> Vec<Problem> {
        decode::value(value.clone(), self).map(|decoded| decoded.problems).unwrap_or_default()
    }

    /// Whether a typed decoder would take the value; the error is Go's text.
    pub fn check_types(&self, value: &Value) -> Result<(), DecodeError> {
        decode::value(value.clone(), self).map(|_| ())
    }
}

fn default_item(schema: &Schema, item: &mut Value) {
    if item.is_null()
        && !schema.is_nullable()
        && let Some(default) = schema.own_default()
    {
        *item = default.clone();
    }
    schema.default(item);
}

fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// `resource` says that the value is an object with metadata of its own.
fn prune(value: &mut Value, schema: &Schema, resource: bool, path: &mut String, pruned: &mut Vec<String>) {
    let keeps = schema.preserves_unknown();
    let resource = resource || schema.embedded_resource || schema.resolve().embedded_resource;
    match value {
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                if resource && is_meta(&name) {
                    continue;
                }
                match schema.field(&name) {
                    Some(known) => prune_field(fields, &name, known, path, pruned),
                    None if keeps => {}
                    None => {
                        fields.remove(&name);
                        pruned.push(join(path, &name));
                    }
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{at}]"));
                match schema.items() {
                    Some(known) => prune(item, known, false, path, pruned),
                    None if keeps => {}
                    None => prune(item, &Schema::from(Shape::Struct(super::Struct::default())), false, path, pruned),
                }
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn prune_field(
    fields: &mut Map<String, Value>,
    name: &str,
    known: &Schema,
    path: &mut String,
    pruned: &mut Vec<String>,
) {
    if let Some(value) = fields.get_mut(name) {
        let length = path.len();
        *path = join(path, name);
        prune(value, known, false, path, pruned);
        path.truncate(length);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::ListKind;

    fn schema() -> Schema {
        let item = Schema::object(None, [("a", Schema::int64().with(|n| n.default = Some(json!(1))))]);
        let open = Schema::object(None, [("known", item.clone())]).with(|n| n.preserve_unknown = true);
        let spec = Schema::object(
            None,
            [
                ("size", Schema::int64().with(|n| n.default = Some(json!(3)))),
                ("maybe", Schema::string().with(|n| n.nullable = true)),
                ("items", Schema::list(item.clone(), ListKind::Atomic)),
                ("map", Schema::map(item)),
                ("open", open),
                ("embedded", Schema::object::<&str>(None, []).with(|n| n.embedded_resource = true)),
            ],
        );
        Schema::object(None, [("spec", spec.with(|n| n.default = Some(json!({}))))])
    }

    #[test]
    fn defaults_fill_holes_depth_first() {
        let mut value = json!({});
        schema().default(&mut value);
        assert_eq!(value, json!({"spec": {"size": 3}}));
        let mut value = json!({"spec": {"size": null, "maybe": null, "items": [{}, {"a": 2}], "map": {"x": {}}}});
        schema().default(&mut value);
        assert_eq!(
            value,
            json!({"spec": {"size": 3, "maybe": null, "items": [{"a": 1}, {"a": 2}], "map": {"x": {"a": 1}}}})
        );
    }

    #[test]
    fn prunes_what_is_unknown() {
        let mut value = json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "x"}, "zed": 1,
            "spec": {
                "foo": 1, "items": [{"a": 1, "b": 2}], "map": {"x": {"c": 1}},
                "open": {"kept": {"deep": 1}, "known": {"d": 1}},
                "embedded": {"kind": "P", "metadata": {"name": "y"}, "gone": 1},
            },
        });
        let pruned = schema().prune(&mut value);
        assert_eq!(
            pruned,
            ["spec.embedded.gone", "spec.foo", "spec.items[0].b", "spec.map.x.c", "spec.open.known.d", "zed"]
        );
        assert_eq!(
            value["spec"],
            json!({"items": [{"a": 1}], "map": {"x": {}}, "open": {"kept": {"deep": 1}, "known": {}},
                   "embedded": {"kind": "P", "metadata": {"name": "y"}}})
        );
    }

    #[test]
    fn drops_nulls_that_are_no_values() {
        let mut value = json!({"spec": {"maybe": null, "items": null, "size": null}});
        schema().drop_nulls(&mut value);
        assert_eq!(value, json!({"spec": {"maybe": null, "size": null}}));
    }
}
