//! Bytes to checked trees: JSON and YAML, with upstream's errors and its strict problems.
//!
//! Decoding has two steps. A parser ([`json`], [`yaml`]) keeps every field in its order, repeats included
//! ([`tree::Tree`]); [`settle`] then walks that tree beside the schema of a built-in kind and gives the value that
//! upstream's typed decoding would hold: unknown fields dropped and named, repeated fields named (the last wins),
//! wrong types refused, nulls of optional fields gone, quantities and times in canonical form.
//!
//! A custom resource is decoded without a schema (repeats are still found) and pruned by its own afterwards.

mod parse;
mod repeats;
mod scalar;
mod settle;
mod tree;

use std::fmt;

use serde_json::Value;

use crate::go;
use crate::schema::Schema;

/// A value, and what strict decoding complains of.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// In the order of the text (repeats of YAML first), each once, at most 100 of each.
    pub problems: Vec<Problem>,
}

/// What strict decoding refuses and lenient decoding drops. `Display` is the warning's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Unknown(String),
    Duplicate(String),
    /// A field that a YAML mapping has already, with the line (from one) of its second value.
    Repeated {
        line: usize,
        key: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(path) => write!(f, "unknown field {}", go::quote(path)),
            Self::Duplicate(path) => write!(f, "duplicate field {}", go::quote(path)),
            Self::Repeated { line, key } => write!(f, "line {line}: key {key} already set in map"),
        }
    }
}

/// Why bytes could not be decoded at all, in the words of Go's decoders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is no JSON (or YAML).
    #[error("{0}")]
    Syntax(String),
    /// A value is not of its field's type.
    #[error("{0}")]
    Type(String),
}

/// Decodes JSON. With a schema the value is what a built-in kind holds; without, any JSON.
pub fn json(bytes: &[u8], schema: Option<&Schema>) -> Result<Decoded, DecodeError> {
    settle::settle(parse::parse(bytes).map_err(DecodeError::Syntax)?, schema)
}

/// Decodes one YAML document.
pub fn yaml(bytes: &[u8], schema: Option<&Schema>) -> Result<Decoded, DecodeError> {
    let (tree, repeats) = tree::from_yaml(bytes).map_err(DecodeError::Syntax)?;
    let mut decoded = settle::settle(tree, schema)?;
    if repeats {
        let found = repeats::repeats(&String::from_utf8_lossy(bytes));
        decoded.problems.splice(0..0, found);
    }
    Ok(decoded)
}

/// Checks a tree made otherwise (by a patch) as if it had been decoded.
pub fn value(value: Value, schema: &Schema) -> Result<Decoded, DecodeError> {
    settle::settle(tree::Tree::from(value), Some(schema))
}

/// What upstream answers when strict decoding has complaints; none when there are none.
pub fn strict_error(problems: &[Problem]) -> Option<String> {
    let others = problems.iter().filter(|problem| !matches!(problem, Problem::Repeated { .. }));
    let texts: Vec<String> = repeats_error(problems).into_iter().chain(others.map(ToString::to_string)).collect();
    if texts.is_empty() { None } else { Some(format!("strict decoding error: {}", texts.join(", "))) }
}

/// What upstream's strict reading of YAML alone says; none where no mapping repeats a field.
pub fn repeats_error(problems: &[Problem]) -> Option<String> {
    let repeats = problems.iter().filter(|problem| matches!(problem, Problem::Repeated { .. }));
    let lines: Vec<String> = repeats.map(|problem| format!("\n  {problem}")).collect();
    if lines.is_empty() { None } else { Some(format!("yaml: unmarshal errors:{}", lines.concat())) }
}

#[cfg(test)]
mod tests;
