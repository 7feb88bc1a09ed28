//! Messages to trees.

use base64::Engine;
use serde_json::{Map, Value, json};

use super::layout::{Holds, Layout};
use super::{Form, SCHEMA, Special, Unreadable, special};
use crate::facts::{Definition, Empty, Type, definition, is_zero};

/// Messages nest no deeper than this in any kind; a body that does is an attack.
const DEPTH_MAX: usize = 64;

/// One field as it stands on the wire.
pub struct Part<'a> {
    pub number: u64,
    pub value: Wire<'a>,
}

#[derive(Clone, Copy)]
pub enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

pub fn parts(bytes: &[u8]) -> Result<Vec<Part<'_>>, Unreadable> {
    let mut rest = bytes;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Wire::Varint(varint(&mut rest)?),
            1 => Wire::Fixed64(u64::from_le_bytes(take(&mut rest)?)),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| Unreadable::Truncated)?;
                let (head, tail) = rest.split_at_checked(length).ok_or(Unreadable::Truncated)?;
                rest = tail;
                Wire::Bytes(head)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(take(&mut rest)?)),
            other => return Err(Unreadable::WireType(other)),
        };
        parts.push(Part { number: key >> 3, value });
    }
    Ok(parts)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(Unreadable::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Unreadable> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let [byte] = take::<1>(rest)?;
        if shift < 64 {
            value |= u64::from(byte & 0x7f) << shift;
        }
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Unreadable::Truncated)
}

pub fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A message as the tree that Go's JSON encoder would make of it.
pub fn message(bytes: &[u8], of: &'static Definition, depth: usize) -> Result<Map<String, Value>, Unreadable> {
    if depth > DEPTH_MAX {
        return Err(Unreadable::TooDeep);
    }
    let mut object = Map::new();
    fields(bytes, of, of.layout(), &mut object, depth)?;
    settle(&mut object, of, depth)?;
    Ok(object)
}

fn fields(
    bytes: &[u8],
    of: &'static Definition,
    layout: &Layout,
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Unreadable> {
    for part in parts(bytes)? {
        match (layout.slot(part.number).map(|slot| &slot.holds), part.value) {
            (Some(Holds::Embedded(inner)), Wire::Bytes(bytes)) => fields(bytes, of, inner, object, depth)?,
            (Some(Holds::Field { name, form: Form::ListInMessage }), Wire::Bytes(bytes)) => {
                if let Some(field) = of.fields.get(name) {
                    object.insert((*name).to_owned(), single(field.of.resolve(), Wire::Bytes(bytes), depth)?);
                }
            }
            (Some(Holds::Field { name, form: Form::Duration }), Wire::Bytes(bytes)) => {
                object.insert((*name).to_owned(), duration(bytes)?);
            }
            (Some(Holds::Field { name, .. }), value) => {
                if let Some(field) = of.fields.get(name) {
                    put(object, name, &field.of, value, depth)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Leaves out what Go's encoder leaves out, and adds what it always writes.
fn settle(object: &mut Map<String, Value>, of: &'static Definition, depth: usize) -> Result<(), Unreadable> {
    for (name, field) in of.fields.iter().filter(|(_, field)| !field.numbers.is_empty()) {
        let is_empty = object.get(*name).is_none_or(is_zero);
        match field.empty {
            Empty::Omitted if is_empty => {
                object.remove(*name);
            }
            Empty::Zero if !object.contains_key(*name) => {
                let value = match field.of.resolve() {
                    Type::Definition(inner) => match definition(inner) {
                        Some(inner) => Value::Object(message(&[], inner, depth + 1)?),
                        None => Value::Null,
                    },
                    of => zero(of),
                };
                object.insert((*name).to_owned(), value);
            }
            Empty::Null if !object.contains_key(*name) => {
                object.insert((*name).to_owned(), Value::Null);
            }
            _ => {}
        }
    }
    Ok(())
}

fn put(
    object: &mut Map<String, Value>,
    name: &str,
    of: &'static Type,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), Unreadable> {
    let resolved = if special(of).is_some() { of } else { of.resolve() };
    match resolved {
        Type::List(items) => {
            let item = single(items, wire, depth)?;
            let list = object.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(item);
            }
        }
        Type::Map(values) => {
            let Wire::Bytes(entry) = wire else { return Ok(()) };
            let (mut key, mut value) = (String::new(), None);
            for part in parts(entry)? {
                match (part.number, part.value) {
                    (1, Wire::Bytes(text)) => key = string(text),
                    (2, wire) => value = Some(single(values, wire, depth)?),
                    _ => {}
                }
            }
            let value = match value {
                Some(value) => value,
                None => match single(values, Wire::Bytes(&[]), depth)? {
                    Value::Null => zero(values),
                    value => value,
                },
            };
            let map = object.entry(name).or_insert_with(|| json!({}));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
        }
        _ => {
            let value = single(of, wire, depth)?;
            object.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

/// What Go writes of a value that was never set.
fn zero(of: &Type) -> Value {
    match of.resolve() {
        Type::String | Type::Bytes => json!(""),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => json!(0),
        Type::Bool => json!(false),
        Type::Quantity => json!("0"),
        Type::Definition(_)
        | Type::Map(_)
        | Type::List(_)
        | Type::Object
        | Type::Any
        | Type::Time
        | Type::MicroTime => Value::Null,
    }
}

#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "protobuf's own encoding of negative numbers"
)]
fn single(of: &'static Type, wire: Wire<'_>, depth: usize) -> Result<Value, Unreadable> {
    if let (Some(special), Wire::Bytes(bytes)) = (special(of), wire) {
        return schema_or(special, bytes, depth);
    }
    Ok(match (of.resolve(), wire) {
        (Type::Bool, Wire::Varint(number)) => json!(number != 0),
        (Type::Int32, Wire::Varint(number)) => json!(number as i32),
        (_, Wire::Varint(number)) => json!(number as i64),
        (_, Wire::Fixed64(bits)) => number(f64::from_bits(bits)),
        (_, Wire::Fixed32(bits)) => number(f32::from_bits(bits).into()),
        (Type::String, Wire::Bytes(bytes)) => json!(string(bytes)),
        (Type::Bytes, Wire::Bytes(bytes)) => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
        (Type::Quantity, Wire::Bytes(bytes)) => json!(quantity(bytes)?),
        (Type::Time, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?,
        (Type::MicroTime, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%S%.6fZ")?,
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Type::Any, Wire::Bytes(bytes)) => raw(bytes)?,
        (Type::Object, Wire::Bytes(_)) => json!({}),
        (Type::List(items), Wire::Bytes(bytes)) => {
            // A list with a name, or inside a map, is a message whose first field repeats.
            let items = parts(bytes)?.into_iter().map(|part| single(items, part.value, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        (Type::Definition(name), Wire::Bytes(bytes)) => match definition(name) {
            Some(of) => Value::Object(message(bytes, of, depth + 1)?),
            None => raw(bytes)?,
        },
        (Type::Bool | Type::Int32 | Type::Int64 | Type::Double | Type::Map(_), Wire::Bytes(_)) => Value::Null,
    })
}

/// A number as Go writes it in JSON: a whole one without a fraction.
#[allow(clippy::cast_possible_truncation, reason = "a whole number that an integer holds exactly")]
fn number(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT { json!(value as i64) } else { json!(value) }
}

/// A message that wraps one string.
fn inner_text(bytes: &[u8]) -> Result<Option<String>, Unreadable> {
    let first = parts(bytes)?.into_iter().find(|part| part.number == 1);
    Ok(match first.map(|part| part.value) {
        Some(Wire::Bytes(text)) => Some(string(text)),
        _ => None,
    })
}

fn quantity(bytes: &[u8]) -> Result<String, Unreadable> {
    Ok(inner_text(bytes)?.filter(|text| !text.is_empty()).unwrap_or_else(|| "0".to_owned()))
}

/// A message that wraps JSON (RawExtension, FieldsV1, apiextensions' JSON), or an object in the form of this module.
fn raw(bytes: &[u8]) -> Result<Value, Unreadable> {
    let first = parts(bytes)?.into_iter().find(|part| part.number == 1);
    let Some(Wire::Bytes(inner)) = first.map(|part| part.value) else { return Ok(Value::Null) };
    if inner.starts_with(super::MAGIC) {
        return super::decode(inner);
    }
    Ok(serde_json::from_slice(inner).unwrap_or(Value::Null))
}

#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "protobuf's own encoding of negative numbers"
)]
fn time(bytes: &[u8], format: &str) -> Result<Value, Unreadable> {
    let (mut seconds, mut nanos) = (0i64, 0i32);
    for part in parts(bytes)? {
        match (part.number, part.value) {
            (1, Wire::Varint(number)) => seconds = number as i64,
            (2, Wire::Varint(number)) => nanos = number as i32,
            _ => {}
        }
    }
    // Go's zero time stands for none.
    let zero = bytes.is_empty() || (seconds == -62_135_596_800 && nanos == 0);
    let at = jiff::Timestamp::new(seconds, nanos).ok().filter(|_| !zero);
    Ok(at.map_or(Value::Null, |at| json!(at.strftime(format).to_string())))
}

#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "protobuf's own encoding of negative numbers"
)]
fn int_or_string(bytes: &[u8]) -> Result<Value, Unreadable> {
    let (mut is_text, mut number, mut text) = (false, 0i32, String::new());
    for part in parts(bytes)? {
        match (part.number, part.value) {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = value as i32,
            (3, Wire::Bytes(value)) => text = string(value),
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

/// As Go prints it, from seconds on: `1h0m0.5s`.
fn duration(bytes: &[u8]) -> Result<Value, Unreadable> {
    let nanos = parts(bytes)?.into_iter().find_map(|part| match part.value {
        Wire::Varint(number) if part.number == 1 => Some(number),
        _ => None,
    });
    let nanos = nanos.unwrap_or(0);
    let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
    let fraction = format!("{:09}", rest % 1_000_000_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{point}{fraction}s", rest / 1_000_000_000);
    Ok(json!(match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }))
}

fn schema_or(special: Special, bytes: &[u8], depth: usize) -> Result<Value, Unreadable> {
    let Some(schema) = definition(SCHEMA) else { return Ok(Value::Null) };
    let (mut one, mut many, mut allows) = (None, Vec::new(), false);
    for part in parts(bytes)? {
        let number = if special == Special::Bool { part.number + 10 } else { part.number };
        match (number, part.value) {
            (1 | 12, Wire::Bytes(bytes)) => one = Some(Value::Object(message(bytes, schema, depth + 1)?)),
            (2, Wire::Bytes(bytes)) if special == Special::Strings => many.push(json!(string(bytes))),
            (2, Wire::Bytes(bytes)) => many.push(Value::Object(message(bytes, schema, depth + 1)?)),
            (11, Wire::Varint(number)) => allows = number != 0,
            _ => {}
        }
    }
    Ok(match (one, special) {
        (Some(schema), _) => schema,
        (None, Special::Bool) => json!(allows),
        (None, _) => Value::Array(many),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_number_has_no_fraction() {
        assert_eq!(number(100.0).to_string(), "100");
        assert_eq!(number(-0.5).to_string(), "-0.5");
        assert!(number(1e300).is_f64());
    }
}
