//! Label selectors: `app in (a,b),!canary,tier!=web`.
//!
//! `k8s.io/apimachinery pkg/labels/selector.go`: grammar, matching, printing and error texts.

mod parse;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::field::{BadValue, FieldError, FieldErrors, Path};
use crate::{go, names};

/// How a requirement relates a label's value to its own values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// All requirements must hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Selector {
    /// Selects nothing, as a missing LabelSelector does.
    Nothing,
    /// Sorted by key; none selects everything.
    All(Vec<Requirement>),
}

impl Default for Selector {
    fn default() -> Self {
        Self::everything()
    }
}

/// Whatever can be asked for a label.
pub trait Labels {
    fn label(&self, key: &str) -> Option<&str>;
}

impl Labels for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl Labels for std::collections::HashMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// The JSON object under `metadata.labels`; anything but a string is no label.
impl Labels for serde_json::Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }
}

impl Labels for [(String, String)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl Labels for Vec<(String, String)> {
    fn label(&self, key: &str) -> Option<&str> {
        self.as_slice().label(key)
    }
}

impl<T: Labels + ?Sized> Labels for Option<&T> {
    fn label(&self, key: &str) -> Option<&str> {
        self.and_then(|labels| labels.label(key))
    }
}

impl Selector {
    pub const fn everything() -> Self {
        Self::All(Vec::new())
    }

    pub const fn nothing() -> Self {
        Self::Nothing
    }

    /// Reads the text form; the error is upstream's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = parse::parse(text)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self::All(requirements))
    }

    /// Labels that must all be there with these values, unchecked as upstream's `SelectorFromSet`.
    pub fn from_set<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut requirements: Vec<Requirement> = labels
            .into_iter()
            .map(|(key, value)| Requirement {
                key: key.to_owned(),
                operator: Operator::Equals,
                values: vec![value.to_owned()],
            })
            .collect();
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self::All(requirements)
    }

    /// A `metav1.LabelSelector` as JSON: missing selects nothing, empty everything.
    pub fn from_label_selector(selector: Option<&Value>) -> Result<Self, String> {
        let Some(selector) = selector.filter(|value| !value.is_null()) else { return Ok(Self::Nothing) };
        let mut parts = Vec::new();
        if let Some(labels) = selector.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                parts.push((key.clone(), "=".to_owned(), vec![value.as_str().unwrap_or("").to_owned()]));
            }
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
            let values = expression.get("values").and_then(Value::as_array);
            let values = values.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            parts.push((text("key"), text("operator"), values));
        }
        Self::from_parts(parts)
    }

    /// A `metav1.LabelSelector` taken apart: `matchLabels` and `(key, operator, values)` expressions.
    pub fn from_typed<'a>(
        match_labels: impl IntoIterator<Item = (&'a String, &'a String)>,
        expressions: impl IntoIterator<Item = (&'a str, &'a str, Vec<String>)>,
    ) -> Result<Self, String> {
        let labels = match_labels.into_iter().map(|(key, value)| (key.clone(), "=".to_owned(), vec![value.clone()]));
        let expressions =
            expressions.into_iter().map(|(key, operator, values)| (key.to_owned(), operator.to_owned(), values));
        Self::from_parts(labels.chain(expressions).collect())
    }

    fn from_parts(parts: Vec<(String, String, Vec<String>)>) -> Result<Self, String> {
        let mut requirements = Vec::with_capacity(parts.len());
        for (key, operator, values) in parts {
            let operator = match operator.as_str() {
                "=" => Operator::Equals,
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{} is not a valid label selector operator", go::quote(other))),
            };
            requirements.push(Requirement::new(key, operator, values).map_err(|errors| errors.to_string())?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self::All(requirements))
    }

    /// Adds requirements to it.
    #[must_use]
    pub fn and(self, more: impl IntoIterator<Item = Requirement>) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::All(mut requirements) => {
                requirements.extend(more);
                requirements.sort_by(|a, b| a.key.cmp(&b.key));
                Self::All(requirements)
            }
        }
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        match self {
            Self::Nothing => false,
            Self::All(requirements) => requirements.iter().all(|requirement| requirement.matches(labels)),
        }
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::All(requirements) if requirements.is_empty())
    }

    pub fn requirements(&self) -> &[Requirement] {
        match self {
            Self::Nothing => &[],
            Self::All(requirements) => requirements,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements().iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl Requirement {
    /// Checks key, operator and values as upstream's `NewRequirement`.
    pub fn new(key: impl Into<String>, operator: Operator, values: Vec<String>) -> Result<Self, FieldErrors> {
        let key = key.into();
        let mut errors = FieldErrors::new();
        let complaints = names::qualified_name(&key);
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(&Path::new("key"), &key, complaints.join("; ")));
        }
        let path = Path::new("values");
        if let Some(detail) = wrong_count(operator, values.len()) {
            errors.push(FieldError::invalid(&path, BadValue::json(&values), detail));
        }
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (at, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(&path.index(at), value, detail));
            }
        }
        for (at, value) in values.iter().enumerate() {
            let complaints = names::label_value(value);
            if !complaints.is_empty() {
                errors.push(FieldError::invalid(&path.index(at).key(&key), value, complaints.join("; ")));
            }
        }
        errors.into_result()?;
        Ok(Self { key, operator, values })
    }

    pub fn matches<L: Labels + ?Sized>(&self, labels: &L) -> bool {
        let found = labels.label(&self.key);
        let listed = |value: &str| self.values.iter().any(|own| own == value);
        match self.operator {
            Operator::Equals | Operator::DoubleEquals | Operator::In => found.is_some_and(listed),
            Operator::NotEquals | Operator::NotIn => !found.is_some_and(listed),
            Operator::Exists => found.is_some(),
            Operator::DoesNotExist => found.is_none(),
            Operator::GreaterThan => self.compared(found).is_some_and(|(value, bound)| value > bound),
            Operator::LessThan => self.compared(found).is_some_and(|(value, bound)| value < bound),
        }
    }

    fn compared(&self, found: Option<&str>) -> Option<(i64, i64)> {
        let [bound] = self.values.as_slice() else { return None };
        Some((found?.parse().ok()?, bound.parse().ok()?))
    }
}

fn wrong_count(operator: Operator, count: usize) -> Option<&'static str> {
    use Operator::{DoesNotExist, DoubleEquals, Equals, Exists, GreaterThan, In, LessThan, NotEquals, NotIn};
    match operator {
        In | NotIn if count == 0 => Some("for 'in', 'notin' operators, values set can't be empty"),
        Equals | DoubleEquals | NotEquals if count != 1 => Some("exact-match compatibility requires one single value"),
        Exists | DoesNotExist if count != 0 => Some("values set must be empty for exists and does not exist"),
        GreaterThan | LessThan if count != 1 => Some("for 'Gt', 'Lt' operators, exactly one value is required"),
        _ => None,
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort_unstable();
        let values = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
        }
    }
}

#[cfg(test)]
mod tests;
