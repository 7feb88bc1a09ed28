//! A [`Tree`] and a schema to the value a typed decoder would hold.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::scalar;
use super::tree::Tree;
use super::{DecodeError, Decoded, Problem};
use crate::schema::{Schema, Shape, Struct};

/// Upstream stops collecting strict problems here.
const PROBLEMS_MAX: usize = 100;

pub(super) fn settle(tree: Tree, schema: Option<&Schema>) -> Result<Decoded, DecodeError> {
    let mut walk = Walk::default();
    let value = match schema {
        Some(schema) => walk.typed(tree, schema)?.unwrap_or(Value::Null),
        None => walk.untyped(tree, true)?,
    };
    match walk.wrong_type {
        Some(text) => Err(DecodeError::Type(text)),
        None => Ok(Decoded { value, problems: walk.problems }),
    }
}

/// The decoder's state: where it is for strict problems (`path`) and for type errors (`fields`, `within`).
#[derive(Default)]
struct Walk {
    path: String,
    /// Field names alone, as Go's errors show the way to a field.
    fields: Vec<Arc<str>>,
    /// The innermost struct type.
    within: Option<Arc<str>>,
    problems: Vec<Problem>,
    seen: HashSet<String>,
    /// The first wrong type; decoding goes on after it, as Go's does.
    wrong_type: Option<String>,
}

impl Walk {
    fn problem(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX && self.seen.insert(problem.to_string()) {
            self.problems.push(problem);
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Runs `inner` with the path extended.
    fn under<T>(&mut self, suffix: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(suffix);
        let out = inner(self);
        self.path.truncate(length);
        out
    }

    fn under_key<T>(&mut self, key: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let suffix = if self.path.is_empty() { key.to_owned() } else { format!(".{key}") };
        self.under(&suffix, inner)
    }

    fn mismatch(&self, found: &Tree, go_type: &str) -> String {
        let found = match found {
            Tree::Null => "null".to_owned(),
            Tree::Bool(_) => "bool".to_owned(),
            Tree::Number(text) if go_type.starts_with("int") || go_type.starts_with("uint") => format!("number {text}"),
            Tree::Number(_) => "number".to_owned(),
            Tree::Text(_) => "string".to_owned(),
            Tree::List(_) => "array".to_owned(),
            Tree::Map(_) => "object".to_owned(),
        };
        let place = match &self.within {
            Some(within) => format!("struct field {within}.{}", self.fields.join(".")),
            None => "value".to_owned(),
        };
        format!("json: cannot unmarshal {found} into Go {place} of type {go_type}")
    }

    fn fail(&mut self, text: String) {
        self.wrong_type.get_or_insert(text);
    }

    /// Any JSON. `strict` is off inside of what upstream keeps raw, where it does not look for repeats.
    fn untyped(&mut self, tree: Tree, strict: bool) -> Result<Value, DecodeError> {
        Ok(match tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(value),
            Tree::Number(text) => scalar::number(&text).map_err(DecodeError::Type)?,
            Tree::Text(text) => Value::String(text),
            Tree::List(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (at, item) in items.into_iter().enumerate() {
                    out.push(self.under(&format!("[{at}]"), |walk| walk.untyped(item, strict))?);
                }
                Value::Array(out)
            }
            Tree::Map(fields) => {
                let mut out = Map::new();
                for (key, value) in fields {
                    if strict && out.contains_key(&key) {
                        self.problem(Problem::Duplicate(self.path_of(&key)));
                    }
                    let value = self.under_key(&key, |walk| walk.untyped(value, strict))?;
                    out.insert(key, value);
                }
                Value::Object(out)
            }
        })
    }

    /// A value of a known type; none when it is null and so the same as missing, or of a wrong type.
    fn typed(&mut self, tree: Tree, schema: &Schema) -> Result<Option<Value>, DecodeError> {
        let target = schema.resolve();
        if tree == Tree::Null && !matches!(target.shape, Shape::Any) {
            return Ok(None);
        }
        match (&target.shape, tree) {
            (Shape::Any, tree) => self.untyped(tree, false).map(Some),
            (Shape::Struct(object), Tree::Map(fields)) => self.object(fields, object, schema).map(Some),
            (Shape::Map(map), Tree::Map(fields)) => {
                let mut out = Map::new();
                for (key, value) in fields {
                    if out.contains_key(&key) {
                        self.problem(Problem::Duplicate(self.path_of(&key)));
                    }
                    let settled = self.under_key(&key, |walk| walk.typed(value, &map.values))?;
                    out.insert(key, settled.unwrap_or_else(|| scalar::zero(&map.values)));
                }
                Ok(Some(Value::Object(out)))
            }
            (Shape::List(list), Tree::List(items)) => {
                let mut out = Vec::with_capacity(items.len());
                for (at, item) in items.into_iter().enumerate() {
                    let settled = self.under(&format!("[{at}]"), |walk| walk.typed(item, &list.items))?;
                    out.push(settled.unwrap_or_else(|| scalar::zero(&list.items)));
                }
                Ok(Some(Value::Array(out)))
            }
            (shape, tree) => {
                match scalar::settle(shape, &tree) {
                    Ok(value) => return Ok(Some(value)),
                    Err(scalar::Wrong::Type) => {
                        let text = self.mismatch(&tree, &scalar::go_type(schema));
                        self.fail(text);
                    }
                    Err(scalar::Wrong::Text(text)) => self.fail(text),
                    Err(scalar::Wrong::Fatal(text)) => return Err(DecodeError::Type(text)),
                    Err(scalar::Wrong::FatalType(go_type)) => {
                        return Err(DecodeError::Type(self.mismatch(&tree, go_type)));
                    }
                }
                Ok(None)
            }
        }
    }

    fn object(&mut self, fields: Vec<(String, Tree)>, of: &Struct, schema: &Schema) -> Result<Value, DecodeError> {
        let keep_unknown = schema.preserves_unknown();
        let mut seen = HashSet::new();
        let mut out = Map::new();
        for (key, value) in fields {
            let Some((name, field)) = of.fields.get_key_value(key.as_str()) else {
                if keep_unknown {
                    let value = self.under_key(&key, |walk| walk.untyped(value, false))?;
                    out.insert(key, value);
                } else {
                    self.problem(Problem::Unknown(self.path_of(&key)));
                }
                continue;
            };
            if !seen.insert(name.clone()) {
                self.problem(Problem::Duplicate(self.path_of(&key)));
            }
            let outer = self.within.clone();
            if let Some(struct_name) = scalar::struct_name(schema) {
                self.within = Some(struct_name);
            }
            let depth = self.fields.len();
            self.fields.extend(field.schema.embedded_in.clone());
            self.fields.push(name.clone());
            let settled = self.under_key(&key, |walk| walk.typed(value, &field.schema))?;
            self.fields.truncate(depth);
            self.within = outer;
            match settled {
                Some(value) => out.insert(key, value),
                None => out.remove(&key),
            };
        }
        Ok(Value::Object(out))
    }
}
