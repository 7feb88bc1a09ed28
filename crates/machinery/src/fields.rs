//! Field selectors: `metadata.name=a,status.phase!=Running`.
//!
//! `k8s.io/apimachinery pkg/fields`: terms, escapes and error texts.

use std::fmt;

use crate::go;

/// One term: the field has, or has not, the value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Term {
    pub field: String,
    pub value: String,
    /// `true` for `=` and `==`, `false` for `!=`.
    pub equal: bool,
}

/// All terms must hold; none selects everything.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FieldSelector {
    pub terms: Vec<Term>,
}

impl FieldSelector {
    pub fn everything() -> Self {
        Self::default()
    }

    pub fn equal(field: &str, value: &str) -> Self {
        Self { terms: vec![Term { field: field.to_owned(), value: value.to_owned(), equal: true }] }
    }

    /// Reads a selector; the error is upstream's text.
    pub fn parse(selector: &str) -> Result<Self, String> {
        let mut parts = split_terms(selector);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, equal, value)) = split_term(part) else {
                return Err(format!("invalid selector: '{selector}'; can't understand '{part}'"));
            };
            terms.push(Term { field: field.to_owned(), value: unescape(value)?, equal });
        }
        Ok(Self { terms })
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// `value_of` gives a field's value, empty when it has none.
    pub fn matches<'a, F, S>(&self, value_of: F) -> bool
    where
        F: Fn(&str) -> S,
        S: AsRef<str> + 'a,
    {
        self.terms.iter().all(|term| (value_of(&term.field).as_ref() == term.value) == term.equal)
    }

    /// The value the field must have, when there is just one.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }

    /// The first field that a kind does not offer.
    pub fn unknown(&self, offered: &[&str]) -> Option<&str> {
        self.terms.iter().map(|term| term.field.as_str()).find(|field| !offered.contains(field))
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{}{}{}", term.field, if term.equal { "=" } else { "!=" }, escape(&term.value))?;
        }
        Ok(())
    }
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(next) => return Err(format!("invalid field selector: invalid escape sequence: \\{next}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            // Upstream prints the rune's number.
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {}", c as u32));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Splits at commas that no backslash precedes.
fn split_terms(selector: &str) -> Vec<&str> {
    if selector.is_empty() {
        return Vec::new();
    }
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in selector.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&selector[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&selector[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let rest = &term[at..];
        [("!=", false), ("==", true), ("=", true)]
            .into_iter()
            .find_map(|(operator, equal)| rest.strip_prefix(operator).map(|value| (&term[..at], equal, value)))
    })
}

/// Upstream's refusal of a field, by a kind that has selectable ones of its own.
pub fn not_supported(field: &str) -> String {
    format!("field label not supported: {field}")
}

/// The same by a kind that has none: `"a.b" is not a known field selector: only "x", "y"`.
pub fn not_known(field: &str, known: &[&str]) -> String {
    let quoted: Vec<String> = known.iter().map(|name| go::quote(name)).collect();
    format!("{} is not a known field selector: only {}", go::quote(field), quoted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_prints() {
        let selector = FieldSelector::parse("metadata.name==a,status.phase!=Run\\,ning").unwrap();
        assert_eq!(selector.to_string(), "metadata.name=a,status.phase!=Run\\,ning");
        assert!(selector.matches(|field| if field == "metadata.name" { "a" } else { "Running" }));
        assert!(!selector.matches(|_| "b"));
        assert_eq!(selector.required_value("metadata.name"), Some("a"));
        assert!(FieldSelector::parse("").unwrap().is_empty());
    }

    #[test]
    fn refuses_as_upstream() {
        assert_eq!(FieldSelector::parse("a").unwrap_err(), "invalid selector: 'a'; can't understand 'a'");
        assert_eq!(
            FieldSelector::parse("a=b=c").unwrap_err(),
            "invalid field selector: unescaped character in value: 61"
        );
        assert_eq!(FieldSelector::parse("a=\\x").unwrap_err(), "invalid field selector: invalid escape sequence: \\x");
        let selector = FieldSelector::parse("spec.foo=1").unwrap();
        assert_eq!(selector.unknown(&["metadata.name"]), Some("spec.foo"));
        assert_eq!(selector.unknown(&["spec.foo"]), None);
    }
}
