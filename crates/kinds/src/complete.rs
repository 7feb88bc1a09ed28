//! Completes an object as upstream's decoder and encoder together do: declared defaults are filled in, empty values
//! that Go would not write are left out, and those it always writes are there.

use serde_json::{Map, Value};

use crate::facts::{Definition, Empty, Field, Type, definition, is_zero};

/// Completes a value of the named definition in place.
pub fn complete(value: &mut Value, name: &str) {
    if let (Some(definition), Value::Object(object)) = (definition(name), value) {
        complete_object(object, definition);
    }
}

fn complete_object(object: &mut Map<String, Value>, definition: &Definition) {
    if let Some(rule) = definition.rule {
        rule(object);
    }
    for (name, field) in &definition.fields {
        let missing = match object.get(*name) {
            None | Some(Value::Null) => true,
            Some(value) => match (field.empty, &field.of) {
                (Empty::Omitted, _) => is_zero(value),
                // Upstream stores protobuf, which knows no difference between an empty list and none.
                (Empty::Null, Type::List(_) | Type::Map(_)) => is_zero(value),
                _ => false,
            },
        };
        if missing {
            match absent(field) {
                Some(value) => object.insert((*name).to_owned(), value),
                None => object.remove(*name),
            };
        } else if let Some(value) = object.get_mut(*name) {
            complete_type(value, &field.of);
        }
    }
}

/// The zero value of a definition as Go writes it: no defaults, only the fields that are always there.
pub fn skeleton(name: &str) -> Value {
    let mut object = Map::new();
    for (name, field) in definition(name).into_iter().flat_map(|definition| &definition.fields) {
        let value = match (field.empty, field.of.resolve()) {
            (Empty::Zero, Type::Definition(inner)) => skeleton(inner),
            (Empty::Zero, of) => zero(of),
            (Empty::Null, _) => Value::Null,
            (Empty::Kept | Empty::Omitted, _) => continue,
        };
        object.insert((*name).to_owned(), value);
    }
    Value::Object(object)
}

/// What a missing field becomes.
fn absent(field: &Field) -> Option<Value> {
    if let Some(default) = field.declared_default() {
        let mut value = default.clone();
        complete_type(&mut value, &field.of);
        return Some(value);
    }
    match field.empty {
        Empty::Kept | Empty::Omitted => None,
        // A pointer that is always written and has a default of its own, even if that is a zero.
        Empty::Null => Some(field.default.clone().unwrap_or(Value::Null)),
        Empty::Zero => Some(zero(&field.of)),
    }
}

fn zero(of: &Type) -> Value {
    match of.resolve() {
        Type::String | Type::Bytes => Value::from(""),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Value::from(0),
        Type::Bool => Value::from(false),
        Type::Quantity => Value::from("0"),
        Type::Object => Value::Object(Map::new()),
        Type::Time | Type::MicroTime | Type::Any | Type::List(_) | Type::Map(_) => Value::Null,
        Type::Definition(name) => {
            let mut value = Value::Object(Map::new());
            complete(&mut value, name);
            value
        }
    }
}

fn complete_type(value: &mut Value, of: &Type) {
    match (of, value) {
        (Type::Definition(name), value) => complete(value, name),
        (Type::List(items), Value::Array(values)) => {
            values.iter_mut().for_each(|value| complete_type(value, items));
        }
        (Type::Map(values), Value::Object(object)) => {
            object.values_mut().for_each(|value| complete_type(value, values));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_written_as_upstream_writes_it() {
        let mut container =
            json!({"name": "web", "args": [], "ports": [{"containerPort": 80, "name": ""}], "tty": false});
        complete(&mut container, "io.k8s.api.core.v1.Container");
        assert_eq!(
            container,
            json!({
                "name": "web", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {},
                "imagePullPolicy": "IfNotPresent", "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            })
        );
    }
}
