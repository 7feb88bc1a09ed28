//! The standard functions: sizes, conversions, optional values, lists and times.

use jiff::tz::TimeZone;

use super::eval::{Evaluation, fail, no_overload};
use super::value::Val;
use super::{CelError, authorizer, kubernetes, strings};
use crate::duration::Duration;
use crate::go;

type Outcome = Result<Val, CelError>;

/// Names that functions are under, which are no variables.
pub(super) fn is_namespace(name: &str) -> bool {
    matches!(name, "optional" | "sets" | "ip" | "math" | "base64" | "jsonpatch")
}

#[allow(clippy::cast_possible_wrap, reason = "no value has 2^63 parts")]
fn size(value: &Val) -> Outcome {
    match value {
        Val::Text(text) => Ok(Val::Int(text.chars().count() as i64)),
        Val::Bytes(_) | Val::List(_) | Val::Map(_) => Ok(Val::Int(value.size() as i64)),
        _ => no_overload(),
    }
}

/// A function without a receiver.
pub(super) fn call(evaluation: &mut Evaluation<'_>, name: &str, args: &[Val]) -> Outcome {
    match (name, args) {
        ("size", [value]) => size(value),
        ("type", [value]) => Ok(Val::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("string" | "int" | "uint" | "double" | "bool" | "bytes" | "timestamp" | "duration", [value]) => {
            convert(name, value)
        }
        ("matches", [text, pattern]) => method(evaluation, text, "matches", std::slice::from_ref(pattern)),
        ("optional.of", [value]) => Ok(Val::some(value.clone())),
        ("optional.none", []) => Ok(Val::Optional(None)),
        ("optional.ofNonZeroValue", [value]) => {
            Ok(if is_zero(value) { Val::Optional(None) } else { Val::some(value.clone()) })
        }
        ("sets.contains", [Val::List(a), Val::List(b)]) => Ok(Val::Bool(b.iter().all(|item| a.contains(item)))),
        ("sets.intersects", [Val::List(a), Val::List(b)]) => Ok(Val::Bool(b.iter().any(|item| a.contains(item)))),
        ("sets.equivalent", [Val::List(a), Val::List(b)]) => {
            Ok(Val::Bool(b.iter().all(|item| a.contains(item)) && a.iter().all(|item| b.contains(item))))
        }
        ("math.greatest" | "math.least", _) => extreme(name == "math.greatest", args),
        _ => kubernetes::call(name, args),
    }
}

fn extreme(greatest: bool, args: &[Val]) -> Outcome {
    let items = match args {
        [Val::List(items)] => items.to_vec(),
        args => args.to_vec(),
    };
    let mut best: Option<Val> = None;
    for item in items {
        let better = match &best {
            None => true,
            Some(best) => match item.compare(best) {
                Some(order) => order.is_gt() == greatest && order.is_ne(),
                None => return no_overload(),
            },
        };
        if better {
            best = Some(item);
        }
    }
    best.map_or_else(no_overload, Ok)
}

fn is_zero(value: &Val) -> bool {
    match value {
        Val::Null => true,
        Val::Bool(value) => !value,
        Val::Int(value) => *value == 0,
        Val::Uint(value) => *value == 0,
        Val::Double(value) => *value == 0.0,
        Val::Text(_) | Val::Bytes(_) | Val::List(_) | Val::Map(_) => value.size() == 0,
        _ => false,
    }
}

/// A value as `string()` gives it.
pub(super) fn to_text(value: &Val) -> Option<String> {
    Some(match value {
        Val::Bool(value) => value.to_string(),
        Val::Int(value) => value.to_string(),
        Val::Uint(value) => value.to_string(),
        Val::Double(value) => go::float(*value),
        Val::Text(text) | Val::Url(text) => text.to_string(),
        Val::Bytes(bytes) => std::str::from_utf8(bytes).ok()?.to_owned(),
        Val::Timestamp(time) => time.to_string(),
        #[allow(clippy::cast_precision_loss, reason = "CEL prints seconds as a float")]
        Val::Duration(duration) => format!("{}s", go::float(duration.nanos as f64 / 1e9)),
        Val::Quantity(quantity) => quantity.to_string(),
        Val::Ip(address) => address.to_string(),
        Val::Cidr(address, bits) => format!("{address}/{bits}"),
        _ => return None,
    })
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranges are checked before")]
fn convert(to: &str, value: &Val) -> Outcome {
    let range = || fail("range error converting value");
    match (to, value) {
        ("string", value) => to_text(value).map_or_else(no_overload, |text| Ok(Val::text(text))),
        ("int", Val::Int(_)) | ("uint", Val::Uint(_)) | ("double", Val::Double(_)) | ("bool", Val::Bool(_)) => {
            Ok(value.clone())
        }
        ("bytes", Val::Bytes(_)) | ("timestamp", Val::Timestamp(_)) | ("duration", Val::Duration(_)) => {
            Ok(value.clone())
        }
        ("int", Val::Uint(value)) => i64::try_from(*value).map_or_else(|_| range(), |value| Ok(Val::Int(value))),
        ("int", Val::Double(value)) if value.abs() < 9.2e18 => Ok(Val::Int(*value as i64)),
        ("int", Val::Timestamp(time)) => Ok(Val::Int(time.as_second())),
        ("uint", Val::Int(value)) => u64::try_from(*value).map_or_else(|_| range(), |value| Ok(Val::Uint(value))),
        ("uint", Val::Double(value)) if (0.0..1.8e19).contains(value) => Ok(Val::Uint(*value as u64)),
        ("int" | "uint", Val::Double(_)) => range(),
        #[allow(clippy::cast_precision_loss, reason = "a double was asked for")]
        ("double", Val::Int(value)) => Ok(Val::Double(*value as f64)),
        #[allow(clippy::cast_precision_loss, reason = "a double was asked for")]
        ("double", Val::Uint(value)) => Ok(Val::Double(*value as f64)),
        ("bytes", Val::Text(text)) => Ok(Val::Bytes(text.as_bytes().into())),
        (_, Val::Text(text)) => {
            parse(to, text).map_or_else(|| fail(format!("type conversion error from 'string' to '{to}'")), Ok)
        }
        _ => no_overload(),
    }
}

fn parse(to: &str, text: &str) -> Option<Val> {
    Some(match to {
        "int" => Val::Int(text.parse().ok()?),
        "uint" => Val::Uint(text.parse().ok()?),
        "double" => Val::Double(text.parse().ok()?),
        "bool" => Val::Bool(match text {
            "true" | "True" | "TRUE" | "t" | "1" => true,
            "false" | "False" | "FALSE" | "f" | "0" => false,
            _ => return None,
        }),
        "timestamp" => Val::Timestamp(text.parse().ok()?),
        "duration" => Val::Duration(Duration::parse(text).ok()?),
        _ => return None,
    })
}

/// A function of a receiver.
pub(super) fn method(evaluation: &mut Evaluation<'_>, of: &Val, name: &str, args: &[Val]) -> Outcome {
    match (of, name, args) {
        (_, "size", []) => size(of),
        (Val::Optional(inner), "hasValue", []) => Ok(Val::Bool(inner.is_some())),
        (Val::Optional(Some(inner)), "value", []) => Ok((**inner).clone()),
        (Val::Optional(None), "value", []) => fail("optional.none() dereference"),
        (Val::Optional(None), "or" | "orValue", [other]) => Ok(other.clone()),
        (Val::Timestamp(_) | Val::Duration(_), _, _) => time(of, name, args),
        (Val::List(items), _, _) => match list(items, name, args) {
            Some(outcome) => outcome,
            None => strings::of_list(items, name, args),
        },
        (Val::Text(text), _, _) => {
            evaluation.spend(text.len() as u64 / 10)?;
            strings::of_text(text, name, args)
        }
        (Val::Authorizer(own), _, _) => authorizer::of_authorizer(own, name, args),
        (Val::Question(question), _, _) => authorizer::of_question(evaluation, question, name, args),
        (Val::Decision(decision), _, _) => authorizer::of_decision(decision, name, args),
        _ => kubernetes::method(of, name, args),
    }
}

fn list(items: &[Val], name: &str, args: &[Val]) -> Option<Outcome> {
    let pick = |best: fn(std::cmp::Ordering) -> bool| {
        let mut out: Option<&Val> = None;
        for item in items {
            match out.map(|out| item.compare(out)) {
                None => out = Some(item),
                Some(None) => return no_overload(),
                Some(Some(order)) if best(order) => out = Some(item),
                Some(Some(_)) => {}
            }
        }
        out.map_or_else(|| fail("min/max called on empty list"), |out| Ok(out.clone()))
    };
    let place = |at: Option<usize>| Ok(Val::Int(at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)));
    Some(match (name, args) {
        ("isSorted", []) => {
            Ok(Val::Bool(items.windows(2).all(|pair| pair[0].compare(&pair[1]).is_some_and(std::cmp::Ordering::is_le))))
        }
        ("min", []) => pick(std::cmp::Ordering::is_lt),
        ("max", []) => pick(std::cmp::Ordering::is_gt),
        ("sum", []) => {
            let mut items = items.iter();
            let Some(first) = items.next() else { return Some(Ok(Val::Int(0))) };
            items.try_fold(first.clone(), |total, item| {
                super::operators::apply("+", &[total, item.clone()]).unwrap_or_else(no_overload)
            })
        }
        ("indexOf", [wanted]) => place(items.iter().position(|item| item == wanted)),
        ("lastIndexOf", [wanted]) => place(items.iter().rposition(|item| item == wanted)),
        ("contains", [wanted]) => Ok(Val::Bool(items.contains(wanted))),
        ("flatten", []) => Ok(Val::list(
            items
                .iter()
                .flat_map(|item| match item {
                    Val::List(inner) => inner.to_vec(),
                    other => vec![other.clone()],
                })
                .collect(),
        )),
        ("first", []) => Ok(Val::Optional(items.first().cloned().map(std::sync::Arc::new))),
        ("last", []) => Ok(Val::Optional(items.last().cloned().map(std::sync::Arc::new))),
        _ => return None,
    })
}

fn time(of: &Val, name: &str, args: &[Val]) -> Outcome {
    let zone = match args {
        [] => TimeZone::UTC,
        [Val::Text(zone)] => match TimeZone::get(zone) {
            Ok(zone) => zone,
            Err(_) => return fail(format!("unknown time zone {zone}")),
        },
        _ => return no_overload(),
    };
    if let Val::Duration(duration) = of {
        let seconds = duration.nanos / 1_000_000_000;
        return Ok(Val::Int(match name {
            "getHours" => seconds / 3600,
            "getMinutes" => seconds / 60,
            "getSeconds" => seconds,
            "getMilliseconds" => duration.nanos / 1_000_000,
            _ => return no_overload(),
        }));
    }
    let Val::Timestamp(time) = of else { return no_overload() };
    let local = time.to_zoned(zone);
    Ok(Val::Int(match name {
        "getFullYear" => i64::from(local.year()),
        "getMonth" => i64::from(local.month()) - 1,
        "getDate" => i64::from(local.day()),
        "getDayOfMonth" => i64::from(local.day()) - 1,
        "getDayOfYear" => i64::from(local.day_of_year()) - 1,
        "getDayOfWeek" => i64::from(local.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(local.hour()),
        "getMinutes" => i64::from(local.minute()),
        "getSeconds" => i64::from(local.second()),
        "getMilliseconds" => i64::from(local.millisecond()),
        _ => return no_overload(),
    }))
}
