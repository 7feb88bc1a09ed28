//! A document with every field in its order, repeats included.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::go;

/// Any JSON. Numbers are kept as written: Go's errors quote them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl From<Value> for Tree {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number.to_string()),
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(fields) => Self::Map(fields.into_iter().map(|(key, value)| (key, value.into())).collect()),
        }
    }
}

/// A document, and whether a mapping of it names a field more than once. The tree has neither repeats nor the text's order:
/// upstream makes JSON of YAML, with sorted fields, before it decodes it.
pub(super) fn from_yaml(bytes: &[u8]) -> Result<(Tree, bool), String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok((Tree::Null, false));
    }
    // Only the first document counts, as in upstream's YAML serializer.
    let Some(document) = serde_yaml_ng::Deserializer::from_slice(bytes).next() else {
        return Ok((Tree::Null, false));
    };
    let repeats = Cell::new(false);
    let tree = AnyTree { repeats: &repeats }.deserialize(document);
    let tree = tree.map_err(|error| format!("error converting YAML to JSON: {}", complaint(&error)))?;
    Ok((tree, repeats.get()))
}

/// A key of a mapping as Go prints the value that it is.
pub(super) fn key_in_go(written: &str) -> String {
    match from_yaml(written.as_bytes()) {
        Ok((Tree::Number(text), _)) => text,
        Ok((Tree::Bool(value), _)) => value.to_string(),
        Ok((Tree::Null, _)) => "<nil>".to_owned(),
        Ok((Tree::Text(text), _)) => go::quote(&text),
        _ => go::quote(written),
    }
}

/// `go.yaml.in/yaml/v2 decode.go: parser.fail`: the line counts from one where the scanner fails, and from zero, which is
/// not told, where the parser does; of a wrong merge it tells no line. The library's own words end with the places of what
/// it was in the middle of.
fn complaint(error: &serde_yaml_ng::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    let by_parser = what.starts_with("did not find expected");
    if what.ends_with(NO_MERGE) {
        return format!("yaml: {NO_MERGE}");
    }
    match error.location().map(|place| place.line() - usize::from(by_parser)) {
        None | Some(0) => format!("yaml: {what}"),
        Some(line) => format!("yaml: line {line}: {what}"),
    }
}

#[derive(Clone, Copy)]
struct AnyTree<'a> {
    /// Becomes true at the first repeat.
    repeats: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for AnyTree<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyTree<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => Ok(Tree::Number(number.to_string())),
            None => Err(E::custom("a number that JSON cannot hold")),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            out.push(item);
        }
        Ok(Tree::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut out = BTreeMap::new();
        while let Some((key, value)) = fields.next_entry_seed(self, self)? {
            let key = match key {
                Tree::Text(text) | Tree::Number(text) => text,
                Tree::Bool(value) => value.to_string(),
                Tree::Null => "null".to_owned(),
                Tree::List(_) | Tree::Map(_) => return Err(de::Error::custom("a key that is no scalar")),
            };
            let fields = if key == MERGE { merged(value).map_err(de::Error::custom)? } else { vec![(key, value)] };
            for (key, value) in fields {
                if out.insert(key, value).is_some() {
                    self.repeats.set(true);
                }
            }
        }
        Ok(Tree::Map(out.into_iter().collect()))
    }
}

/// The key whose value's fields are the mapping's own.
const MERGE: &str = "<<";
const NO_MERGE: &str = "map merge requires map or sequence of maps as the value";

/// The fields that a merge brings: those of a mapping, or of several, of which the earlier ones come later and so prevail.
fn merged(value: Tree) -> Result<Vec<(String, Tree)>, &'static str> {
    match value {
        Tree::Map(fields) => Ok(fields),
        Tree::List(items) => items.into_iter().rev().try_fold(Vec::new(), |mut all, item| {
            let Tree::Map(fields) = item else { return Err(NO_MERGE) };
            all.extend(fields);
            Ok(all)
        }),
        _ => Err(NO_MERGE),
    }
}
