//! Operators on evaluated values.

use std::cmp::Ordering;

use super::CelError;
use super::eval::{fail, no_overload};
use super::value::Val;
use crate::duration::Duration;

type Outcome = Result<Val, CelError>;

/// Applies an operator by its sign; none when the name is no operator.
pub(super) fn apply(name: &str, args: &[Val]) -> Option<Outcome> {
    Some(match (name, args) {
        ("==", [a, b]) => Ok(Val::Bool(a == b)),
        ("!=", [a, b]) => Ok(Val::Bool(a != b)),
        ("<", [a, b]) => ordered(a, b, |order| order == Ordering::Less),
        ("<=", [a, b]) => ordered(a, b, |order| order != Ordering::Greater),
        (">", [a, b]) => ordered(a, b, |order| order == Ordering::Greater),
        (">=", [a, b]) => ordered(a, b, |order| order != Ordering::Less),
        ("in", [item, Val::List(items)]) => Ok(Val::Bool(items.contains(item))),
        ("in", [key, map @ Val::Map(_)]) => Ok(Val::Bool(map.get(key).is_some())),
        ("!", [Val::Bool(value)]) => Ok(Val::Bool(!value)),
        ("-", [Val::Int(value)]) => checked(value.checked_neg()),
        ("-", [Val::Double(value)]) => Ok(Val::Double(-value)),
        ("+", [a, b]) => add(a, b),
        ("-", [a, b]) => subtract(a, b),
        ("*" | "/" | "%", [a, b]) => multiply(name, a, b),
        ("!" | "-" | "in", _) => no_overload(),
        _ => return None,
    })
}

fn ordered(a: &Val, b: &Val, test: impl Fn(Ordering) -> bool) -> Outcome {
    match a.compare(b) {
        Some(order) => Ok(Val::Bool(test(order))),
        // A NaN is not ordered, and no error.
        None if matches!((a, b), (Val::Double(_), _) | (_, Val::Double(_))) => Ok(Val::Bool(false)),
        None => no_overload(),
    }
}

fn checked(value: Option<i64>) -> Outcome {
    value.map_or_else(|| fail("integer overflow"), |value| Ok(Val::Int(value)))
}

fn checked_unsigned(value: Option<u64>) -> Outcome {
    value.map_or_else(|| fail("unsigned integer overflow"), |value| Ok(Val::Uint(value)))
}

fn checked_duration(nanos: Option<i64>) -> Outcome {
    nanos.map_or_else(|| fail("duration overflow"), |nanos| Ok(Val::Duration(Duration { nanos })))
}

fn moved(time: jiff::Timestamp, nanos: i64) -> Outcome {
    match time.checked_add(jiff::SignedDuration::from_nanos(nanos)) {
        Ok(time) => Ok(Val::Timestamp(time)),
        Err(_) => fail("timestamp overflow"),
    }
}

fn add(a: &Val, b: &Val) -> Outcome {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => checked(a.checked_add(*b)),
        (Val::Uint(a), Val::Uint(b)) => checked_unsigned(a.checked_add(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Val::Text(a), Val::Text(b)) => Ok(Val::text(format!("{a}{b}"))),
        (Val::Bytes(a), Val::Bytes(b)) => Ok(Val::Bytes([&**a, &**b].concat().into())),
        (Val::List(a), Val::List(b)) => Ok(Val::list(a.iter().chain(b.iter()).cloned().collect())),
        (Val::Duration(a), Val::Duration(b)) => checked_duration(a.nanos.checked_add(b.nanos)),
        (Val::Timestamp(time), Val::Duration(by)) | (Val::Duration(by), Val::Timestamp(time)) => moved(*time, by.nanos),
        _ => no_overload(),
    }
}

fn subtract(a: &Val, b: &Val) -> Outcome {
    match (a, b) {
        (Val::Int(a), Val::Int(b)) => checked(a.checked_sub(*b)),
        (Val::Uint(a), Val::Uint(b)) => checked_unsigned(a.checked_sub(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a - b)),
        (Val::Duration(a), Val::Duration(b)) => checked_duration(a.nanos.checked_sub(b.nanos)),
        (Val::Timestamp(time), Val::Duration(by)) => match by.nanos.checked_neg() {
            Some(nanos) => moved(*time, nanos),
            None => fail("duration overflow"),
        },
        (Val::Timestamp(a), Val::Timestamp(b)) => checked_duration(i64::try_from(a.duration_since(*b).as_nanos()).ok()),
        _ => no_overload(),
    }
}

fn multiply(name: &str, a: &Val, b: &Val) -> Outcome {
    match (name, a, b) {
        ("*", Val::Int(a), Val::Int(b)) => checked(a.checked_mul(*b)),
        ("*", Val::Uint(a), Val::Uint(b)) => checked_unsigned(a.checked_mul(*b)),
        ("*", Val::Double(a), Val::Double(b)) => Ok(Val::Double(a * b)),
        ("/", Val::Double(a), Val::Double(b)) => Ok(Val::Double(a / b)),
        ("/", Val::Int(_), Val::Int(0)) | ("/", Val::Uint(_), Val::Uint(0)) => fail("division by zero"),
        ("%", Val::Int(_), Val::Int(0)) | ("%", Val::Uint(_), Val::Uint(0)) => fail("modulus by zero"),
        ("/", Val::Int(a), Val::Int(b)) => checked(a.checked_div(*b)),
        ("/", Val::Uint(a), Val::Uint(b)) => checked_unsigned(a.checked_div(*b)),
        ("%", Val::Int(a), Val::Int(b)) => checked(a.checked_rem(*b)),
        ("%", Val::Uint(a), Val::Uint(b)) => checked_unsigned(a.checked_rem(*b)),
        _ => no_overload(),
    }
}
