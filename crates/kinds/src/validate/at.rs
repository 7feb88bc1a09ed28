//! A value and its place in the object, which is what a rule looks at.

use machinery::field::{BadValue, FieldError, FieldErrors, Path};
use serde_json::Value;

static NULL: Value = Value::Null;

/// A value and where it stands; a missing one is null.
#[derive(Debug, Clone)]
pub struct At<'a> {
    pub value: &'a Value,
    pub path: Path,
}

impl<'a> At<'a> {
    /// A whole object.
    pub fn root(object: &'a Value) -> Self {
        Self { value: object, path: Path::ROOT }
    }

    pub fn field(&self, name: &str) -> At<'a> {
        At { value: self.value.get(name).unwrap_or(&NULL), path: self.path.child(name) }
    }

    pub fn fields(&self, names: &[&str]) -> At<'a> {
        names.iter().fold(self.clone(), |at, name| at.field(name))
    }

    /// The items of a list.
    pub fn items(&self) -> impl Iterator<Item = At<'a>> + use<'a> {
        let path = self.path.clone();
        let items = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(move |(index, value)| At { value, path: path.index(index) })
    }

    /// The entries of a map.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let path = self.path.clone();
        let entries = self.value.as_object().into_iter().flatten();
        entries.map(move |(key, value)| (key.as_str(), At { value, path: path.key(key) }))
    }

    /// How many items or entries there are.
    pub fn count(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(entries) => entries.len(),
            _ => 0,
        }
    }

    /// The value reported at another place.
    pub fn reported_at(&self, path: Path) -> At<'a> {
        At { value: self.value, path }
    }

    /// Not null.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// A nested value, if it is there.
    pub fn set(&self, name: &str) -> Option<At<'a>> {
        Some(self.field(name)).filter(At::is_set)
    }

    /// Missing, or what Go leaves out: an empty text, list or map, a zero.
    pub fn is_empty(&self) -> bool {
        crate::facts::is_zero(self.value)
    }

    pub fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub fn int(&self) -> i64 {
        self.value.as_i64().unwrap_or(0)
    }

    pub fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or(false)
    }

    pub fn is(&self, text: &str) -> bool {
        self.text() == text
    }

    /// The texts of a list.
    pub fn texts(&self) -> Vec<&'a str> {
        self.value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    pub fn required(&self, errors: &mut FieldErrors, detail: &str) {
        errors.push(FieldError::required(&self.path, detail));
    }

    /// Reports a missing text, list or map; says whether it is there.
    pub fn must_be_set(&self, errors: &mut FieldErrors) -> bool {
        let empty = self.is_empty();
        if empty {
            self.required(errors, "");
        }
        !empty
    }

    pub fn invalid(&self, errors: &mut FieldErrors, detail: impl Into<String>) {
        errors.push(FieldError::invalid(&self.path, self.value, detail));
    }

    pub fn invalid_each(&self, errors: &mut FieldErrors, complaints: Vec<String>) {
        errors.invalid_each(&self.path, self.text(), complaints);
    }

    pub fn forbidden(&self, errors: &mut FieldErrors, detail: impl Into<String>) {
        errors.push(FieldError::forbidden(&self.path, detail));
    }

    pub fn duplicate(&self, errors: &mut FieldErrors) {
        errors.push(FieldError::duplicate(&self.path, self.value));
    }

    pub fn not_found(&self, errors: &mut FieldErrors) {
        errors.push(FieldError::not_found(&self.path, self.value));
    }

    /// Reports a text that is not one of `values`, shown in their order.
    pub fn one_of(&self, values: &[&str], errors: &mut FieldErrors) -> bool {
        let known = values.contains(&self.text());
        if !known {
            errors.push(FieldError::not_supported(&self.path, self.text(), values));
        }
        known
    }

    /// As [`At::one_of`], with a missing text reported as such.
    pub fn required_one_of(&self, values: &[&str], errors: &mut FieldErrors) -> bool {
        self.must_be_set(errors) && self.one_of(values, errors)
    }

    /// As [`At::one_of`], where the field may be missing.
    pub fn optional_one_of(&self, values: &[&str], errors: &mut FieldErrors) {
        if self.is_set() {
            self.one_of(values, errors);
        }
    }

    /// A missing value as the empty text, else the value as it is.
    pub fn shown(&self) -> BadValue {
        BadValue::from(self.value)
    }
}
