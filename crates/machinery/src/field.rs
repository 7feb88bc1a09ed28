//! Field errors: what is wrong with which field, in upstream's words.
//!
//! `k8s.io/apimachinery pkg/util/validation/field`: error types, texts and path syntax.

use std::fmt;
use std::fmt::Write as _;

use serde_json::Value;

use crate::go;

/// The way from an object's root to a field, as `spec.containers[0].image`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Path(Option<String>);

impl Path {
    /// The object itself, which upstream prints as `<nil>`.
    pub const ROOT: Path = Path(None);

    pub fn new(name: &str) -> Self {
        Path(Some(name.to_owned()))
    }

    /// The field `name` of this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        self.extended(|text| {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(name);
        })
    }

    /// The fields `names`, each in the one before.
    #[must_use]
    pub fn children(&self, names: &[&str]) -> Self {
        names.iter().fold(self.clone(), |path, name| path.child(name))
    }

    /// An item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.extended(|text| {
            let _ = write!(text, "[{index}]");
        })
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.extended(|text| {
            let _ = write!(text, "[{key}]");
        })
    }

    fn extended(&self, add: impl FnOnce(&mut String)) -> Self {
        let mut text = self.0.clone().unwrap_or_default();
        add(&mut text);
        Path(Some(text))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("<nil>"))
    }
}

impl From<&str> for Path {
    fn from(text: &str) -> Self {
        Path::new(text)
    }
}

/// Why a field is wrong. The names on the wire are `FieldError::cause_type`'s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ErrorType {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TooFew,
    TooShort,
    Internal,
    TypeInvalid,
}

impl ErrorType {
    /// The `type` of a cause in a Status.
    pub fn cause_type(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TooFew => "FieldValueTooFew",
            Self::TooShort => "FieldValueTooShort",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TooFew => "Too few",
            Self::TooShort => "Too short",
            Self::Internal => "Internal error",
        }
    }

    /// Whether the message shows the wrong value.
    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong | Self::TooShort | Self::Internal)
    }
}

/// A wrong value as a message shows it: strings quoted, the rest as JSON.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadValue {
    Omitted,
    Shown(String),
}

impl BadValue {
    /// A value of any serialisable type, in the order of its own fields, as upstream shows its structs.
    pub fn json<T: serde::Serialize>(value: &T) -> Self {
        match serde_json::to_string(value) {
            // `go::json` escapes on the text, so the order of a struct's fields survives.
            Ok(text) => Self::Shown(go::escape_html(text)),
            Err(error) => Self::Shown(go::quote(&error.to_string())),
        }
    }
}

impl From<&str> for BadValue {
    fn from(value: &str) -> Self {
        Self::Shown(go::quote(value))
    }
}

impl From<String> for BadValue {
    fn from(value: String) -> Self {
        Self::Shown(go::quote(&value))
    }
}

impl From<&String> for BadValue {
    fn from(value: &String) -> Self {
        Self::Shown(go::quote(value))
    }
}

impl From<&Value> for BadValue {
    fn from(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Shown(go::quote(text)),
            Value::Number(number) if number.is_f64() => Self::Shown(go::float(number.as_f64().unwrap_or(f64::NAN))),
            other => Self::Shown(go::json(other)),
        }
    }
}

impl From<Value> for BadValue {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl From<f64> for BadValue {
    fn from(value: f64) -> Self {
        Self::Shown(go::float(value))
    }
}

macro_rules! shown_plainly {
    ($($t:ty),*) => {$(
        impl From<$t> for BadValue {
            fn from(value: $t) -> Self {
                Self::Shown(value.to_string())
            }
        }
    )*};
}
shown_plainly!(i32, i64, u32, u64, usize, bool);

/// One field, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {}", self.body())]
pub struct FieldError {
    pub kind: ErrorType,
    pub field: String,
    pub value: BadValue,
    pub detail: String,
}

impl FieldError {
    fn new(kind: ErrorType, path: &Path, value: BadValue, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, detail: detail.into() }
    }

    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, BadValue::Omitted, detail)
    }

    pub fn invalid(path: &Path, value: impl Into<BadValue>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, value.into(), detail)
    }

    pub fn type_invalid(path: &Path, value: impl Into<BadValue>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, value.into(), detail)
    }

    /// `supported` in the order upstream lists it (its sets are sorted by the caller).
    pub fn not_supported<S: AsRef<str>>(path: &Path, value: impl Into<BadValue>, supported: &[S]) -> Self {
        let quoted: Vec<String> = supported.iter().map(|s| go::quote(s.as_ref())).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        Self::new(ErrorType::NotSupported, path, value.into(), detail)
    }

    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, BadValue::Omitted, detail)
    }

    pub fn duplicate(path: &Path, value: impl Into<BadValue>) -> Self {
        Self::new(ErrorType::Duplicate, path, value.into(), "")
    }

    pub fn not_found(path: &Path, value: impl Into<BadValue>) -> Self {
        Self::new(ErrorType::NotFound, path, value.into(), "")
    }

    /// Longer than `bytes_max` bytes.
    pub fn too_long(path: &Path, bytes_max: usize) -> Self {
        let unit = if bytes_max == 1 { "byte" } else { "bytes" };
        Self::new(ErrorType::TooLong, path, BadValue::Omitted, format!("may not be more than {bytes_max} {unit}"))
    }

    /// Longer than `characters_max` characters.
    pub fn too_long_characters(path: &Path, characters_max: usize) -> Self {
        let unit = if characters_max == 1 { "character" } else { "characters" };
        let detail = format!("may not be more than {characters_max} {unit}");
        Self::new(ErrorType::TooLong, path, BadValue::Omitted, detail)
    }

    pub fn too_short(path: &Path, characters_min: usize) -> Self {
        let unit = if characters_min == 1 { "character" } else { "characters" };
        let detail = format!("must be at least {characters_min} {unit}");
        Self::new(ErrorType::TooShort, path, BadValue::Omitted, detail)
    }

    pub fn too_many(path: &Path, actual: usize, items_max: usize) -> Self {
        let unit = if items_max == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooMany, path, actual.into(), format!("must have at most {items_max} {unit}"))
    }

    pub fn too_few(path: &Path, actual: usize, items_min: usize) -> Self {
        let unit = if items_min == 1 { "item" } else { "items" };
        Self::new(ErrorType::TooFew, path, actual.into(), format!("must have at least {items_min} {unit}"))
    }

    pub fn internal(path: &Path, error: impl fmt::Display) -> Self {
        Self::new(ErrorType::Internal, path, BadValue::Omitted, error.to_string())
    }

    /// The message without the field.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_owned();
        if self.kind.shows_value()
            && let BadValue::Shown(value) = &self.value
        {
            out.push_str(": ");
            out.push_str(value);
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

/// Every error of an object: validation never stops at the first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldErrors(pub Vec<FieldError>);

impl FieldErrors {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    pub fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.0.extend(errors);
    }

    /// One `Invalid value` for each message a name rule gave.
    pub fn invalid_each(&mut self, path: &Path, value: &str, messages: impl IntoIterator<Item = String>) {
        self.extend(messages.into_iter().map(|message| FieldError::invalid(path, value, message)));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    pub fn into_result(self) -> Result<(), FieldErrors> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// As upstream's aggregate: one bare, several `[a, b]`, repeats once.
impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&go::aggregate(self.0.iter().map(ToString::to_string)))
    }
}

impl std::error::Error for FieldErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_upstreams() {
        let path = Path::new("spec").child("containers").index(0).child("image");
        let mut errors = FieldErrors::new();
        errors.push(FieldError::required(&path, ""));
        errors.push(FieldError::not_supported(&Path::new("type"), "x", &["A", "B"]));
        errors.push(FieldError::invalid(&Path::new("n"), -1, "must be greater than or equal to 0"));
        errors.push(FieldError::too_long(&Path::new("a").key("k"), 5));
        errors.push(FieldError::too_many(&Path::new("l"), 3, 1));
        insta::assert_snapshot!(errors.to_string(), @r#"[spec.containers[0].image: Required value, type: Unsupported value: "x": supported values: "A", "B", n: Invalid value: -1: must be greater than or equal to 0, a[k]: Too long: may not be more than 5 bytes, l: Too many: 3: must have at most 1 item]"#);
        assert_eq!(Path::ROOT.to_string(), "<nil>");
        assert_eq!(Path::ROOT.child("spec").to_string(), "spec");
        assert_eq!(Path::ROOT.index(1).child("a").to_string(), "[1].a");
    }
}
