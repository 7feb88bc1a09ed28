//! Whether a value passes its checks, with the messages of `k8s.io/kube-openapi pkg/validation`.

use serde_json::Value;

use super::format;
use super::validation::Validation;
use crate::field::{BadValue, FieldError, Path};
use crate::go;

/// What checking a value came to. `matches` counts what held, which decides whose errors an `anyOf` shows.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) errors: Vec<FieldError>,
    pub(super) matches: usize,
}

impl Outcome {
    pub(super) fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.matches += other.matches;
    }

    pub(super) fn invalid(&mut self, place: &str, value: impl Into<BadValue>, text: &str) {
        let message = format!("{place} in body {text}");
        self.errors.push(FieldError::invalid(&path_of(place), value, message));
    }

    /// An error that upstream reports at the root.
    fn composite(&mut self, text: String) {
        self.errors.push(FieldError::invalid(&Path::ROOT, "", text));
    }
}

/// The path an error is shown at; the empty place is the object itself.
pub(super) fn path_of(place: &str) -> Path {
    let bare = place.strip_prefix('.').unwrap_or(place);
    if bare.is_empty() { Path::ROOT } else { Path::new(bare) }
}

pub(super) fn child(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// The JSON type's name as a message gives it.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The error of a value of a wrong type.
pub(super) fn wrong_type(place: &str, wanted: &str, found: &str) -> FieldError {
    let message = format!("{place} in body must be of type {wanted}: {}", go::quote(found));
    FieldError::type_invalid(&path_of(place), found, message)
}

/// Whether a value is of an OpenAPI type: a whole float counts as an integer, an integer as a number.
pub(super) fn is_of_type(value: &Value, wanted: &str) -> bool {
    match (wanted, value) {
        ("integer", Value::Number(number)) => {
            !number.is_f64() || number.as_f64().is_some_and(|float| float.fract() == 0.0)
        }
        ("number", Value::Number(_)) => true,
        _ => type_of(value) == wanted,
    }
}

/// Checks a value, and through `properties` and `items` (inside of junctors) those in it.
pub(super) fn check(rules: &Validation, value: &Value, place: &str) -> Outcome {
    let mut out = Outcome { matches: 1, ..Outcome::default() };
    if let Some(wanted) = &rules.type_name {
        if is_of_type(value, wanted) {
            out.matches += 1;
        } else {
            out.errors.push(wrong_type(place, wanted, type_of(value)));
        }
    }
    if !value.is_null() {
        junctors(rules, value, place, &mut out);
    }
    match value {
        Value::String(text) => check_text(rules, text, place, &mut out),
        Value::Number(number) => check_number(rules, number, place, &mut out),
        Value::Array(items) => check_items(rules, items, place, &mut out),
        _ => {}
    }
    if !rules.allowed.is_empty() && !rules.allowed.contains(value) {
        let allowed: Vec<String> = rules
            .allowed
            .iter()
            .map(|allowed| allowed.as_str().map_or_else(|| go::json(allowed), str::to_owned))
            .collect();
        out.errors.push(FieldError::not_supported(&path_of(place), value, &allowed));
    }
    if let Value::Object(fields) = value {
        check_fields(rules, fields, place, &mut out);
    }
    out
}

fn check_text(rules: &Validation, text: &str, place: &str, out: &mut Outcome) {
    let length = text.chars().count() as u64;
    if let Some(max) = rules.max_length.filter(|max| length > *max) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        out.errors.push(FieldError::too_long(&path_of(place), max));
    } else if let Some(min) = rules.min_length.filter(|min| length < *min) {
        out.invalid(place, text, &format!("should be at least {min} chars long"));
    } else if let Some((pattern, _)) = rules.pattern.as_ref().filter(|(_, regex)| !regex.is_match(text)) {
        out.invalid(place, text, &format!("should match '{pattern}'"));
    } else {
        out.matches += 1;
    }
    if let Some(name) = rules.format.as_deref().filter(|name| !format::is_valid(name, text)) {
        out.errors.push(wrong_type(place, name, text));
    }
}

fn check_number(rules: &Validation, number: &serde_json::Number, place: &str, out: &mut Outcome) {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let shown = || Value::Number(number.clone());
    let bound = |bound: f64| go::float(bound);
    if let Some(factor) = rules.multiple_of {
        let quotient = if factor < 1.0 { 1.0 / factor * value } else { value / factor };
        // Upstream takes quotients this near to a whole number for one.
        if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
            out.invalid(place, shown(), &format!("should be a multiple of {}", bound(factor)));
        }
    }
    if let Some(max) = rules.maximum {
        let (over, text) = match rules.exclusive_maximum {
            true => (value >= max, "should be less than"),
            false => (value > max, "should be less than or equal to"),
        };
        if over {
            out.invalid(place, shown(), &format!("{text} {}", bound(max)));
        }
    }
    if let Some(min) = rules.minimum {
        let (under, text) = match rules.exclusive_minimum {
            true => (value <= min, "should be greater than"),
            false => (value < min, "should be greater than or equal to"),
        };
        if under {
            out.invalid(place, shown(), &format!("{text} {}", bound(min)));
        }
    }
    out.matches += 1;
}

fn check_items(rules: &Validation, items: &[Value], place: &str, out: &mut Outcome) {
    if let Some(item_rules) = &rules.items {
        for (at, item) in items.iter().enumerate() {
            out.merge(check(item_rules, item, &format!("{place}[{at}]")));
        }
    }
    let count = items.len() as u64;
    if let Some(min) = rules.min_items.filter(|min| count < *min) {
        out.invalid(place, count, &format!("should have at least {min} items"));
    }
    if let Some(max) = rules.max_items.filter(|max| count > *max) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        out.errors.push(FieldError::too_many(&path_of(place), items.len(), max));
    }
    if rules.unique_items && (1..items.len()).any(|at| items[..at].contains(&items[at])) {
        out.invalid(place, "", "shouldn't contain duplicates");
    }
    out.matches += 1;
}

fn check_fields(rules: &Validation, fields: &serde_json::Map<String, Value>, place: &str, out: &mut Outcome) {
    let count = fields.len() as u64;
    if let Some(min) = rules.min_properties.filter(|min| count < *min) {
        out.invalid(place, count, &format!("should have at least {min} properties"));
    }
    if let Some(max) = rules.max_properties.filter(|max| count > *max) {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        out.errors.push(FieldError::too_many(&path_of(place), fields.len(), max));
    }
    for (name, field) in fields {
        let own = rules.properties.get(name.as_str()).or(rules.additional_properties.as_deref());
        if let Some(own) = own {
            out.merge(check(own, field, &child(place, name)));
        }
    }
    for name in rules.required.iter().filter(|name| !fields.contains_key(&***name)) {
        out.errors.push(FieldError::required(&path_of(&child(place, name)), ""));
    }
    out.matches += 1;
}

/// `anyOf`, `oneOf`, `allOf` and `not`.
fn junctors(rules: &Validation, value: &Value, place: &str, out: &mut Outcome) {
    let quoted = go::quote(place);
    if !rules.any_of.is_empty() {
        let outcomes: Vec<Outcome> = rules.any_of.iter().map(|rules| check(rules, value, place)).collect();
        if !outcomes.iter().any(Outcome::is_valid) {
            out.composite(format!("{quoted} must validate at least one schema (anyOf)"));
        }
        out.merge(best(outcomes, true));
    }
    if !rules.one_of.is_empty() {
        let outcomes: Vec<Outcome> = rules.one_of.iter().map(|rules| check(rules, value, place)).collect();
        match outcomes.iter().filter(|outcome| outcome.is_valid()).count() {
            1 => out.merge(best(outcomes, true)),
            0 => {
                out.composite(format!("{quoted} must validate one and only one schema (oneOf). Found none valid"));
                out.merge(best(outcomes, false));
            }
            count => out.composite(format!(
                "{quoted} must validate one and only one schema (oneOf). Found {count} valid alternatives"
            )),
        }
    }
    if !rules.all_of.is_empty() {
        let outcomes: Vec<Outcome> = rules.all_of.iter().map(|rules| check(rules, value, place)).collect();
        let held = outcomes.iter().filter(|outcome| outcome.is_valid()).count();
        let (all, none) = (held == outcomes.len(), held == 0);
        outcomes.into_iter().for_each(|outcome| out.merge(outcome));
        if !all {
            let more = if none { ". None validated" } else { "" };
            out.composite(format!("{quoted} must validate all the schemas (allOf){more}"));
        }
    }
    if let Some(not) = &rules.not
        && check(not, value, place).is_valid()
    {
        out.composite(format!("{quoted} must not validate the schema (not)"));
    }
}

/// The first that holds (when `or_valid`), else the failure of which most held.
fn best(outcomes: Vec<Outcome>, or_valid: bool) -> Outcome {
    let mut best: Option<Outcome> = None;
    for outcome in outcomes {
        if or_valid && outcome.is_valid() {
            return outcome;
        }
        if best.as_ref().is_none_or(|best| outcome.matches > best.matches) {
            best = Some(outcome);
        }
    }
    best.unwrap_or_default()
}
