//! What ConfigMap and Secret share: keys, sizes, and data that stays.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use super::At;

/// The most data one object holds, in bytes.
pub const BYTES_MAX: usize = 1024 * 1024;

pub fn keys(data: &At, errors: &mut FieldErrors) {
    for (key, entry) in data.entries() {
        for complaint in names::config_map_key(key) {
            errors.push(FieldError::invalid(&entry.path, key, complaint));
        }
    }
}

/// How many bytes the base64 texts of a map stand for.
pub fn bytes(data: &At) -> usize {
    data.entries().map(|(_, value)| value.text().trim_end_matches('=').len() * 3 / 4).sum()
}

/// Once `immutable` is set, it and the data stay.
pub fn keeps(new: &At, old: &At, fields: &[&str], errors: &mut FieldErrors) {
    const KEPT: &str = "field is immutable when `immutable` is set";
    if !old.field("immutable").flag() {
        return;
    }
    if !new.field("immutable").flag() {
        new.field("immutable").forbidden(errors, KEPT);
    }
    for field in fields {
        let (now, before) = (new.field(field), old.field(field));
        if now.value != before.value && !(now.is_empty() && before.is_empty()) {
            now.forbidden(errors, KEPT);
        }
    }
}

/// Why bytes are no JSON, as Go's decoder tells it.
pub fn json_complaint(bytes: &[u8], error: &serde_json::Error) -> String {
    let at = error.column().saturating_sub(1);
    match bytes.get(at).filter(|_| !error.is_eof()) {
        Some(byte) => format!("invalid character {:?} looking for beginning of value", char::from(*byte)),
        None => "unexpected end of JSON input".to_owned(),
    }
}
