//! Rules on types used in several kinds; what holds for one kind alone stands in the kind's file.
//!
//! `kubernetes/kubernetes pkg/apis/*/validation`: which failures there are, on which field, and how they read. A rule
//! gets a value with its place ([`At`]) and reports every failure; it sees objects that are decoded and completed, so
//! that a missing field and an empty one mean the same unless the type keeps them apart.

pub mod affinity;
pub mod claim;
pub mod container;
pub mod data;
pub mod env;
pub mod expressions;
pub mod handler;
pub mod pod_resize;
pub mod pod_spec;
pub mod pod_update;
pub mod pod_warnings;
pub mod resources;
pub mod security;
pub mod selector;
pub mod template;
pub mod volume;

mod at;
mod net;

pub use at::At;
pub use net::{cidr, ip, is_within, routable_ip};

use machinery::field::{BadValue, FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;

/// `must be greater than or equal to 0`.
pub fn nonnegative(at: &At, errors: &mut FieldErrors) {
    if at.int() < 0 {
        at.invalid(errors, "must be greater than or equal to 0");
    }
}

/// The same for each of an object's fields named.
pub fn nonnegative_fields(at: &At, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        nonnegative(&at.field(field), errors);
    }
}

/// The same where the rule is declared with the type, which shows no value.
pub fn immutable_unshown(new: &At, old: &At, errors: &mut FieldErrors) {
    if new.value != old.value && !(new.is_empty() && old.is_empty()) {
        errors.push(FieldError::invalid(&new.path, shown("null"), "field is immutable"));
    }
}

pub fn positive(at: &At, errors: &mut FieldErrors) {
    if at.int() <= 0 {
        at.invalid(errors, "must be greater than zero");
    }
}

/// A field that keeps the value it was made with.
pub fn immutable(new: &At, old: &At, errors: &mut FieldErrors) {
    if new.value != old.value && !(new.is_empty() && old.is_empty()) {
        new.invalid(errors, "field is immutable");
    }
}

/// A port by number or by name.
pub fn port(at: &At, errors: &mut FieldErrors) {
    match at.value {
        Value::String(name) => at.invalid_each(errors, names::port_name(name)),
        _ => {
            for message in names::port_number(at.int()) {
                errors.push(FieldError::invalid(&at.path, at.int(), message));
            }
        }
    }
}

/// A number or a percentage, neither below zero.
pub fn int_or_percent(at: &At, errors: &mut FieldErrors) {
    match at.value {
        Value::String(text) => at.invalid_each(errors, names::percent(text)),
        _ => nonnegative(at, errors),
    }
}

/// The number of an integer or of a percentage.
pub fn int_or_percent_value(at: &At) -> i64 {
    match at.value {
        Value::String(text) => text.trim_end_matches('%').parse().unwrap_or(0),
        _ => at.int(),
    }
}

pub fn at_most_100_percent(at: &At, errors: &mut FieldErrors) {
    let percent =
        at.value.as_str().and_then(|text| text.strip_suffix('%')).and_then(|digits| digits.parse::<i64>().ok());
    if percent.is_some_and(|percent| percent > 100) {
        at.invalid(errors, "must not be greater than 100%");
    }
}

/// Whether an object's counts in its status fit together: none may be greater than `of`.
pub fn counts_within(status: &At, fields: &[&str], of: &str, shown: &str, errors: &mut FieldErrors) {
    let most = status.field(of).int();
    for field in fields {
        let count = status.field(field);
        if count.int() > most {
            let detail = format!("cannot be greater than {shown}");
            errors.push(FieldError::invalid(&count.path, count.int(), detail));
        }
    }
}

/// A counter that only grows.
pub fn not_decremented(new: &At, old: &At, errors: &mut FieldErrors) {
    if old.is_set() && new.int() < old.int() {
        errors.push(FieldError::invalid(&new.path, new.int(), "cannot be decremented"));
    }
}

/// A value shown as Go's encoder writes an internal struct: its fields in their order, with their Go names.
pub fn shown(text: impl Into<String>) -> BadValue {
    BadValue::Shown(text.into())
}
