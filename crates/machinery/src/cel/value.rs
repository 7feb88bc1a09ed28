//! CEL's values.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::authorizer::{Authorizer, Decision, Question};
use crate::duration::Duration;
use crate::quantity::Quantity;
use crate::schema::{Schema, Shape};

/// A value of an expression.
#[derive(Clone, Debug)]
pub enum Val {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<Vec<Val>>),
    Map(Arc<Vec<(Val, Val)>>),
    Timestamp(jiff::Timestamp),
    Duration(Duration),
    Optional(Option<Arc<Val>>),
    Quantity(Quantity),
    Url(Arc<str>),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Type(&'static str),
    Authorizer(Arc<dyn Authorizer>),
    Question(Arc<Question>),
    Decision(Arc<Decision>),
    /// A variable whose own expression failed: whoever uses it fails with the same words.
    Failed(Arc<str>),
}

impl Val {
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    pub fn list(items: Vec<Val>) -> Self {
        Self::List(Arc::new(items))
    }

    pub(super) fn some(value: Val) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// JSON as it stands: whole numbers are ints.
    pub fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::text(text.as_str()),
            Value::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Value::Object(fields) => Self::Map(Arc::new(
                fields.iter().map(|(name, field)| (Self::text(name.as_str()), Self::from_json(field))).collect(),
            )),
        }
    }

    /// The value as JSON; none when it has no such form.
    pub fn to_json(&self) -> Option<Value> {
        use base64::Engine as _;
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::from(*value),
            Self::Int(value) => Value::from(*value),
            Self::Uint(value) => Value::from(*value),
            Self::Double(value) => serde_json::Number::from_f64(*value).map(Value::Number)?,
            Self::Text(text) => Value::from(text.as_ref()),
            Self::Bytes(bytes) => Value::from(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect::<Option<_>>()?),
            Self::Map(entries) => {
                let entry = |(key, value): &(Val, Val)| match key {
                    Val::Text(key) => Some((key.to_string(), value.to_json()?)),
                    _ => None,
                };
                Value::Object(entries.iter().map(entry).collect::<Option<_>>()?)
            }
            Self::Timestamp(_)
            | Self::Duration(_)
            | Self::Quantity(_)
            | Self::Url(_)
            | Self::Ip(_)
            | Self::Cidr(..) => Value::from(super::functions::to_text(self)?),
            Self::Optional(_)
            | Self::Type(_)
            | Self::Authorizer(_)
            | Self::Question(_)
            | Self::Decision(_)
            | Self::Failed(_) => return None,
        })
    }

    /// JSON by its schema: formats of time and bytes, and numbers that are doubles even when whole.
    pub fn from_typed(value: &Value, schema: &Schema) -> Self {
        match (schema.shape(), value) {
            (Shape::Number, Value::Number(number)) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
                let entry = |(name, field): (&String, &Value)| {
                    let below =
                        schema.field(name).map_or_else(|| Self::from_json(field), |own| Self::from_typed(field, own));
                    (Self::text(name.as_str()), below)
                };
                Self::Map(Arc::new(fields.iter().map(entry).collect()))
            }
            (Shape::List(list), Value::Array(items)) => {
                Self::list(items.iter().map(|item| Self::from_typed(item, &list.items)).collect())
            }
            (_, Value::String(text)) => match schema.format.as_deref().or(schema.resolve().format.as_deref()) {
                Some("date-time") => text.parse().map_or_else(|_| Self::from_json(value), Self::Timestamp),
                Some("date") => {
                    let midnight = format!("{text}T00:00:00Z");
                    midnight.parse().map_or_else(|_| Self::from_json(value), Self::Timestamp)
                }
                Some("duration") => Duration::parse(text).map_or_else(|_| Self::from_json(value), Self::Duration),
                Some("byte") => {
                    use base64::Engine as _;
                    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
                    decoded.map_or_else(|_| Self::from_json(value), |bytes| Self::Bytes(bytes.into()))
                }
                _ => Self::from_json(value),
            },
            _ => Self::from_json(value),
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Optional(_) => "optional_type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Type(_) => "type",
            Self::Authorizer(_) => "kubernetes.authorization.Authorizer",
            Self::Question(_) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
            Self::Failed(_) => "error",
        }
    }

    /// A map's value by key.
    pub(super) fn get(&self, key: &Val) -> Option<&Val> {
        match self {
            Self::Map(entries) => entries.iter().find(|(own, _)| own == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// How much work a value is to walk.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(items) => items.len() as u64,
            Self::Map(entries) => entries.len() as u64,
            _ => 1,
        }
    }
}

/// Numbers are equal across their types.
impl PartialEq for Val {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) | (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => {
                a.len() == b.len() && a.iter().all(|(key, value)| other.get(key) == Some(value))
            }
            (Self::Timestamp(a), Self::Timestamp(b)) => a == b,
            (Self::Duration(a), Self::Duration(b)) => a == b,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, m), Self::Cidr(b, n)) => a == b && m == n,
            (Self::Type(a), Self::Type(b)) => a == b,
            _ => self.compare_numbers(other) == Some(Ordering::Equal),
        }
    }
}

impl Val {
    #[allow(clippy::cast_precision_loss, reason = "CEL compares ints with doubles as doubles")]
    fn compare_numbers(&self, other: &Self) -> Option<Ordering> {
        let double = |value: &Val| match value {
            Val::Int(value) => Some(*value as f64),
            Val::Uint(value) => Some(*value as f64),
            Val::Double(value) => Some(*value),
            _ => None,
        };
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Uint(a), Self::Uint(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Uint(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Uint(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            _ => double(self)?.partial_cmp(&double(other)?),
        }
    }

    /// The order of values that have one.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Quantity(a), Self::Quantity(b)) => Some(a.cmp(b)),
            _ => self.compare_numbers(other),
        }
    }
}
