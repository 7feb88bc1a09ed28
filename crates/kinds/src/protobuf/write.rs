//! Trees to messages.

use base64::Engine;
use serde_json::{Map, Value};

use super::layout::{Holds, Layout};
use super::{Form, SCHEMA, Special, special};
use crate::facts::{Definition, Empty, Field, Type, definition};

/// Writes the fields of a tree; what the definition does not know is left out.
pub fn message(out: &mut Vec<u8>, value: &Value, of: &'static Definition) {
    let nothing = Map::new();
    fields(out, value.as_object().unwrap_or(&nothing), of, of.layout());
}

fn fields(out: &mut Vec<u8>, object: &Map<String, Value>, of: &'static Definition, layout: &Layout) {
    for slot in &layout.slots {
        match &slot.holds {
            Holds::Embedded(inner) => nested(out, slot.number, |out| fields(out, object, of, inner)),
            Holds::Field { name, form } => {
                let Some(field) = of.fields.get(name) else { continue };
                let value = object.get(*name).unwrap_or(&Value::Null);
                match form {
                    Form::OfItsType => self::field(out, slot.number, value, field),
                    Form::Duration => nested(out, slot.number, |out| varint_field(out, 1, nanoseconds(value))),
                    Form::ListInMessage if value.is_null() => {}
                    Form::ListInMessage => {
                        nested(out, slot.number, |out| repeated(out, 1, value, field.of.resolve()));
                    }
                }
            }
        }
    }
}

fn field(out: &mut Vec<u8>, number: u32, value: &Value, field: &'static Field) {
    if special(&field.of).is_none() {
        match field.of.resolve() {
            list @ Type::List(_) => return repeated(out, number, value, list),
            Type::Map(values) => return entries(out, number, value, values),
            _ => {}
        }
    }
    if value.is_null() && !always_written(field) {
        return;
    }
    single(out, number, value, &field.of);
}

/// Whether Go's field is no pointer. Bytes are a slice: written if there are any, or if they are empty and not missing.
fn always_written(field: &Field) -> bool {
    match field.empty {
        Empty::Kept | Empty::Null => false,
        Empty::Zero | Empty::Omitted => !matches!(field.of.resolve(), Type::Bytes),
    }
}

fn repeated(out: &mut Vec<u8>, number: u32, value: &Value, list: &'static Type) {
    let Type::List(items) = list else { return };
    for item in value.as_array().into_iter().flatten() {
        single(out, number, item, items);
    }
}

fn entries(out: &mut Vec<u8>, number: u32, value: &Value, values: &'static Type) {
    let Value::Object(map) = value else { return };
    let mut sorted: Vec<(&String, &Value)> = map.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in sorted {
        nested(out, number, |out| {
            bytes(out, 1, key.as_bytes());
            match values.resolve() {
                list @ Type::List(_) => nested(out, 2, |out| repeated(out, 1, value, list)),
                _ => single(out, 2, value, values),
            }
        });
    }
}

/// One value under a number; `null` is its type's zero.
fn single(out: &mut Vec<u8>, number: u32, value: &Value, of: &'static Type) {
    if let Some(special) = special(of) {
        return nested(out, number, |out| schema_or(out, special, value));
    }
    match of.resolve() {
        Type::Bool => varint_field(out, number, u64::from(value.as_bool().unwrap_or(false))),
        Type::Int32 | Type::Int64 => varint_field(out, number, integer(value).cast_unsigned()),
        Type::Double => {
            varint(out, u64::from(number) << 3 | 1);
            out.extend_from_slice(&value.as_f64().unwrap_or(0.0).to_bits().to_le_bytes());
        }
        Type::String => bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Type::Bytes => {
            let text = value.as_str().unwrap_or_default();
            bytes(out, number, &base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default());
        }
        Type::Quantity => nested(out, number, |out| match value {
            Value::String(text) => bytes(out, 1, text.as_bytes()),
            Value::Null => bytes(out, 1, b"0"),
            other => bytes(out, 1, other.to_string().as_bytes()),
        }),
        Type::Time | Type::MicroTime => nested(out, number, |out| time(out, value)),
        Type::IntOrString => nested(out, number, |out| int_or_string(out, value)),
        Type::Any => nested(out, number, |out| raw(out, value)),
        // A message without a field.
        Type::Object => bytes(out, number, &[]),
        Type::Definition(name) => match definition(name) {
            Some(of) => nested(out, number, |out| message(out, value, of)),
            None => nested(out, number, |out| raw(out, value)),
        },
        // A list of lists, or of maps, is in no message.
        Type::List(_) | Type::Map(_) => {}
    }
}

fn integer(value: &Value) -> i64 {
    #[allow(clippy::cast_possible_truncation, reason = "a whole number that was written with a fraction of zero")]
    value.as_i64().or_else(|| value.as_f64().map(|number| number as i64)).unwrap_or(0)
}

/// A message that wraps JSON; without any it is empty.
fn raw(out: &mut Vec<u8>, value: &Value) {
    if !value.is_null() {
        bytes(out, 1, value.to_string().as_bytes());
    }
}

/// Go's zero time is an empty message. Nanoseconds are never written of a `Time`, for JSON has none either.
/// `kubernetes/apimachinery pkg/apis/meta/v1/{time_proto,micro_time_proto}.go`.
fn time(out: &mut Vec<u8>, value: &Value) {
    let parsed = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let Some(at) = parsed else { return };
    let at_second = at.as_second() - i64::from(at.subsec_nanosecond() < 0);
    let nanosecond = i64::from(at.subsec_nanosecond()).rem_euclid(1_000_000_000);
    varint_field(out, 1, at_second.cast_unsigned());
    varint_field(out, 2, nanosecond.cast_unsigned());
}

fn nanoseconds(value: &Value) -> u64 {
    let duration = value.as_str().and_then(|text| text.parse::<jiff::SignedDuration>().ok()).unwrap_or_default();
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX).cast_unsigned()
}

fn int_or_string(out: &mut Vec<u8>, value: &Value) {
    let text = value.as_str();
    varint_field(out, 1, u64::from(text.is_some()));
    varint_field(out, 2, integer(value).cast_unsigned());
    bytes(out, 3, text.unwrap_or_default().as_bytes());
}

/// `kubernetes/apiextensions-apiserver pkg/apis/apiextensions/v1/generated.proto`: the number of each alternative.
fn schema_or(out: &mut Vec<u8>, special: Special, value: &Value) {
    let Some(schema) = definition(SCHEMA) else { return };
    let written = |out: &mut Vec<u8>, number, value: &Value| nested(out, number, |out| message(out, value, schema));
    match (special, value) {
        (Special::List | Special::Strings, Value::Object(_)) => written(out, 1, value),
        (Special::List, Value::Array(items)) => items.iter().for_each(|item| written(out, 2, item)),
        (Special::Strings, Value::Array(items)) => {
            items.iter().for_each(|item| bytes(out, 2, item.as_str().unwrap_or_default().as_bytes()));
        }
        (Special::Bool, Value::Object(_)) => {
            varint_field(out, 1, 1);
            written(out, 2, value);
        }
        (Special::Bool, value) => varint_field(out, 1, u64::from(value.as_bool().unwrap_or(false))),
        _ => {}
    }
}

/// A length-delimited field.
pub fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    varint(out, u64::from(number) << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// A length-delimited field whose content is written in place: one byte is kept for its length, and more are made room
/// for if that is not enough.
fn nested(out: &mut Vec<u8>, number: u32, content: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(number) << 3 | 2);
    let at = out.len();
    out.push(0);
    content(out);
    let mut length = Vec::new();
    varint(&mut length, (out.len() - at - 1) as u64);
    out.splice(at..=at, length);
}

fn varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    varint(out, u64::from(number) << 3);
    varint(out, value);
}

pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
