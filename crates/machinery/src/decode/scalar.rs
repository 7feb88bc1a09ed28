//! Single values: what each shape takes, and in which form it is kept.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use super::tree::Tree;
use crate::duration::Duration;
use crate::go;
use crate::quantity::Quantity;
use crate::schema::{Schema, Shape};

/// Why a value does not fit.
pub(super) enum Wrong {
    /// Its JSON type.
    Type,
    /// Its text, with the whole message. Decoding goes on.
    Text(String),
    /// The same from a type that decodes itself, whose error ends the decoding and is the one reported.
    Fatal(String),
    /// The JSON type, by such a type; with Go's name of what it wanted.
    FatalType(&'static str),
}

/// A number as upstream keeps it untyped: an int64 when written as one, else a float.
pub(super) fn number(text: &str) -> Result<Value, String> {
    if !text.contains('.')
        && let Ok(whole) = text.parse::<i64>()
    {
        return Ok(Value::from(whole));
    }
    let float = text.parse::<f64>().ok().and_then(Number::from_f64);
    float
        .map(Value::Number)
        .ok_or_else(|| format!("json: cannot unmarshal number {text} into Go value of type float64"))
}

pub(super) fn settle(shape: &Shape, tree: &Tree) -> Result<Value, Wrong> {
    match (shape, tree) {
        (Shape::String, Tree::Text(text)) => Ok(Value::String(text.clone())),
        (Shape::Boolean, Tree::Bool(value)) => Ok(Value::Bool(*value)),
        (Shape::Integer { bits, unsigned }, Tree::Number(text)) => integer(text, *bits, *unsigned),
        (Shape::Number, Tree::Number(text)) => number(text).map_err(Wrong::Text),
        (Shape::Bytes, Tree::Text(text)) => bytes(text),
        (Shape::IntOrString, Tree::Text(text)) => Ok(Value::String(text.clone())),
        (Shape::IntOrString, Tree::Number(text)) => integer(text, 32, false).map_err(|_| Wrong::FatalType("int32")),
        (Shape::IntOrString, _) => Err(Wrong::FatalType("int32")),
        (Shape::Quantity, Tree::Text(text) | Tree::Number(text)) => quantity(text),
        (Shape::Quantity, _) => quantity(""),
        (Shape::Time, Tree::Text(text)) => time(text, false),
        (Shape::MicroTime, Tree::Text(text)) => time(text, true),
        (Shape::Duration, Tree::Text(text)) => match Duration::parse(text) {
            Ok(duration) => Ok(Value::String(duration.to_string())),
            Err(error) => Err(Wrong::Fatal(error)),
        },
        (Shape::Time | Shape::MicroTime | Shape::Duration, _) => Err(Wrong::FatalType("string")),
        _ => Err(Wrong::Type),
    }
}

fn integer(text: &str, bits: u8, unsigned: bool) -> Result<Value, Wrong> {
    let value = match (bits, unsigned) {
        (32, false) => text.parse::<i32>().ok().map(Value::from),
        (32, true) => text.parse::<u32>().ok().map(Value::from),
        (_, false) => text.parse::<i64>().ok().map(Value::from),
        (_, true) => text.parse::<u64>().ok().map(Value::from),
    };
    value.ok_or(Wrong::Type)
}

fn quantity(text: &str) -> Result<Value, Wrong> {
    match Quantity::parse(text.trim()) {
        Ok(quantity) => Ok(Value::String(quantity.to_string())),
        Err(error) => Err(Wrong::Fatal(error.to_string())),
    }
}

fn bytes(text: &str) -> Result<Value, Wrong> {
    // Go's decoder skips line ends.
    let bare: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match STANDARD.decode(&bare) {
        Ok(_) => Ok(Value::String(bare)),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => bare.len() / 4 * 4,
            };
            Err(Wrong::Text(format!("illegal base64 data at input byte {at}")))
        }
    }
}

/// A time in UTC, to the second or (`micro`) the microsecond.
fn time(text: &str, micro: bool) -> Result<Value, Wrong> {
    let Ok(time) = text.parse::<jiff::Timestamp>() else {
        let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
        let text = go::quote(text);
        return Err(Wrong::Fatal(format!("parsing time {text} as \"{layout}\": cannot parse {text} as \"2006\"")));
    };
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Value::String(time.strftime(format).to_string()))
}

/// What Go holds for a null in a list or map.
pub(super) fn zero(schema: &Schema) -> Value {
    match schema.shape() {
        Shape::Any => Value::Null,
        Shape::Struct(_) | Shape::Map(_) => Value::Object(Map::new()),
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Integer { .. } | Shape::Number | Shape::IntOrString => Value::from(0),
        Shape::Boolean => Value::Bool(false),
        Shape::Quantity => Value::String("0".to_owned()),
        Shape::Duration => Value::String("0s".to_owned()),
        Shape::Time | Shape::MicroTime => Value::Null,
        Shape::String | Shape::Bytes | Shape::Ref(_) => Value::String(String::new()),
    }
}

/// The Go name of a struct type without its package: `DeploymentSpec`.
pub(super) fn struct_name(schema: &Schema) -> Option<Arc<str>> {
    match schema.shape() {
        Shape::Struct(object) => object.name.clone(),
        _ => None,
    }
}

/// The Go name of a type, as a decode error prints it.
pub(super) fn go_type(schema: &Schema) -> String {
    if let Some(name) = schema.go_type.as_ref().or(schema.resolve().go_type.as_ref()) {
        return name.to_string();
    }
    match &schema.shape {
        Shape::Ref(reference) => match schema.shape() {
            Shape::Struct(_) => {
                let mut parts = reference.name.rsplit('.');
                let (name, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or("v1"));
                format!("{version}.{name}")
            }
            _ => go_type(reference.target()),
        },
        Shape::Any => "interface {}".to_owned(),
        Shape::Struct(object) => object.name.as_ref().map_or("v1.Object".to_owned(), |name| format!("v1.{name}")),
        Shape::Map(map) => format!("map[string]{}", go_type(&map.values)),
        Shape::List(list) => format!("[]{}", go_type(&list.items)),
        Shape::String | Shape::Time | Shape::MicroTime | Shape::Duration => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::IntOrString => "int32".to_owned(),
        Shape::Integer { bits, unsigned } => format!("{}int{bits}", if *unsigned { "u" } else { "" }),
        Shape::Number => "float64".to_owned(),
        Shape::Boolean => "bool".to_owned(),
    }
}
