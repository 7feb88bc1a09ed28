//! Request bodies in Kubernetes' protobuf form, which `kubectl create` and other typed clients send, read into the same
//! trees as JSON. Field numbers and types come from the type facts; no message is spelled out here.
//!
//! `kubernetes/apimachinery pkg/runtime/serializer/protobuf: the four bytes "k8s\0", then runtime.Unknown`.

use base64::Engine;
use kinds::facts::{Definition, Field, Type, definition};
use serde_json::{Map, Value, json};

const MAGIC: &[u8] = b"k8s\0";
/// Messages nest no deeper than this in any kind; a body that does is an attack.
const DEPTH_MAX: usize = 64;

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: illegal wireType {0}")]
    WireType(u64),
    #[error("no kind \"{kind}\" is registered for version \"{version}\"")]
    UnknownKind { kind: String, version: String },
    #[error("proto: nested too deep")]
    TooDeep,
}

/// Reads a body. `definition_of` names the facts of a version and kind.
pub fn decode(bytes: &[u8], definition_of: impl Fn(&str, &str) -> Option<String>) -> Result<Value, Unreadable> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(Unreadable::NoPrefix)?;
    let (mut version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for part in parts(envelope)? {
        match (part.number, part.value) {
            (1, Wire::Bytes(meta)) => {
                for part in parts(meta)? {
                    match (part.number, part.value) {
                        (1, Wire::Bytes(text)) => version = string(text),
                        (2, Wire::Bytes(text)) => kind = string(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(body)) => raw = body,
            _ => {}
        }
    }
    let facts = definition_of(&version, &kind).and_then(|name| definition(&name));
    let facts = facts.ok_or_else(|| Unreadable::UnknownKind { kind: kind.clone(), version: version.clone() })?;
    let mut object = message(raw, facts, 0)?;
    object.insert("apiVersion".to_owned(), Value::String(version));
    object.insert("kind".to_owned(), Value::String(kind));
    Ok(Value::Object(object))
}

/// One field as it stands on the wire.
struct Part<'a> {
    number: u64,
    value: Wire<'a>,
}

#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

fn parts(bytes: &[u8]) -> Result<Vec<Part<'_>>, Unreadable> {
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

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn message(bytes: &[u8], facts: &'static Definition, depth: usize) -> Result<Map<String, Value>, Unreadable> {
    let fields: Vec<(&'static str, &'static Field, &'static [u32])> =
        facts.fields.iter().map(|(name, field)| (*name, field, field.numbers.as_slice())).collect();
    let mut object = Map::new();
    read_fields(bytes, &fields, &mut object, depth)?;
    Ok(object)
}

/// Reads the fields of a message; those of an embedded one are reached through its number.
fn read_fields(
    bytes: &[u8],
    fields: &[(&'static str, &'static Field, &'static [u32])],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Unreadable> {
    if depth > DEPTH_MAX {
        return Err(Unreadable::TooDeep);
    }
    for part in parts(bytes)? {
        let here = |(_, _, numbers): &&(&'static str, &'static Field, &'static [u32])| {
            numbers.first().is_some_and(|number| u64::from(*number) == part.number)
        };
        let matching: Vec<_> = fields.iter().filter(here).copied().collect();
        match matching.as_slice() {
            [] => {}
            [(name, field, [_])] => put(object, name, &field.of, part.value, depth)?,
            embedded => {
                if let Wire::Bytes(inner) = part.value {
                    let inside: Vec<_> =
                        embedded.iter().map(|(name, field, numbers)| (*name, *field, &numbers[1..])).collect();
                    read_fields(inner, &inside, object, depth + 1)?;
                }
            }
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
    match of.resolve() {
        Type::List(items) => {
            let item = single(items, wire, depth)?;
            let list = object.entry(name).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(item);
            }
        }
        Type::Map(values) => {
            let Wire::Bytes(entry) = wire else { return Ok(()) };
            let (mut key, mut value) = (String::new(), zero(values));
            for part in parts(entry)? {
                match (part.number, part.value) {
                    (1, Wire::Bytes(text)) => key = string(text),
                    (2, wire) => value = single(values, wire, depth)?,
                    _ => {}
                }
            }
            let map = object.entry(name).or_insert_with(|| json!({}));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
        }
        of => {
            let value = single(of, wire, depth)?;
            object.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

/// What a map's entry without a value holds.
fn zero(of: &'static Type) -> Value {
    match of.resolve() {
        Type::String | Type::Bytes => json!(""),
        Type::List(_) => json!([]),
        Type::Quantity => json!("0"),
        Type::Definition(_) | Type::Map(_) | Type::Object => json!({}),
        _ => Value::Null,
    }
}

#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "protobuf's own encoding of negative numbers"
)]
fn single(of: &'static Type, wire: Wire<'_>, depth: usize) -> Result<Value, Unreadable> {
    Ok(match (of.resolve(), wire) {
        (Type::Bool, Wire::Varint(number)) => json!(number != 0),
        (Type::Int32, Wire::Varint(number)) => json!(number as i32),
        (_, Wire::Varint(number)) => json!(number as i64),
        (_, Wire::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (_, Wire::Fixed32(bits)) => json!(f32::from_bits(bits)),
        (Type::String, Wire::Bytes(bytes)) => json!(string(bytes)),
        (Type::Bytes, Wire::Bytes(bytes)) => json!(base64::engine::general_purpose::STANDARD.encode(bytes)),
        (Type::Quantity, Wire::Bytes(bytes)) => json!(inner_text(bytes)?),
        (Type::Time, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%SZ")?,
        (Type::MicroTime, Wire::Bytes(bytes)) => time(bytes, "%Y-%m-%dT%H:%M:%S%.6fZ")?,
        (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Type::Any | Type::Object, Wire::Bytes(bytes)) => raw(bytes)?,
        (Type::List(items), Wire::Bytes(bytes)) => {
            // A list inside a map is a message whose first field repeats (ExtraValue and its like).
            let items = parts(bytes)?.into_iter().map(|part| single(items, part.value, depth + 1));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        (Type::Map(_), Wire::Bytes(_)) => Value::Null,
        (Type::Definition(name), Wire::Bytes(bytes)) => match definition(name) {
            Some(facts) => Value::Object(message(bytes, facts, depth + 1)?),
            None => raw(bytes)?,
        },
        (_, Wire::Bytes(bytes)) => json!(string(bytes)),
    })
}

/// A message that wraps one string.
fn inner_text(bytes: &[u8]) -> Result<String, Unreadable> {
    let first = parts(bytes)?.into_iter().find(|part| part.number == 1);
    Ok(match first.map(|part| part.value) {
        Some(Wire::Bytes(text)) => string(text),
        _ => String::new(),
    })
}

/// A message that wraps JSON (RawExtension, FieldsV1, apiextensions' JSON).
fn raw(bytes: &[u8]) -> Result<Value, Unreadable> {
    let text = inner_text(bytes)?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn a_config_map_is_read() {
        let meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        let object_meta = [field(1, b"c"), field(3, b"default"), field(8, b"")].concat();
        let entry = [field(1, b"a"), field(2, b"b")].concat();
        let raw = [field(1, &object_meta), field(2, &entry)].concat();
        let body = [MAGIC.to_vec(), field(1, &meta), field(2, &raw)].concat();
        let read = decode(&body, |_, kind| Some(format!("io.k8s.api.core.v1.{kind}"))).unwrap();
        assert_eq!(
            read,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
                "metadata": {"name": "c", "namespace": "default", "creationTimestamp": null}})
        );
        assert_eq!(decode(b"{}", |_, _| None), Err(Unreadable::NoPrefix));
        assert_eq!(decode(&body[..body.len() - 1], |_, _| None), Err(Unreadable::Truncated));
    }
}
