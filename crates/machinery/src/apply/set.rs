//! Sets of field paths, and `FieldsV1`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::path::{PathElement, path_text};
use crate::schema::{Schema, Shape};

/// A set of paths, as a tree. A path may be a member and lead on to others at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    members: BTreeSet<PathElement>,
    children: BTreeMap<PathElement, FieldSet>,
}

/// `FieldsV1` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error decoding set: {0}")]
pub struct SetError(pub String);

impl FieldSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// The paths of plain field names, as `[&["spec"], &["metadata", "name"]]`.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            set.insert(&path.iter().map(|name| PathElement::field(name)).collect::<Vec<_>>());
        }
        set
    }

    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.has(rest)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// What lies under one step.
    pub(super) fn under(&self, element: &PathElement) -> Option<&FieldSet> {
        self.children.get(element).filter(|child| !child.is_empty())
    }

    pub(super) fn has_member(&self, element: &PathElement) -> bool {
        self.members.contains(element)
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let merged = out.children.get(element).map_or_else(|| child.clone(), |own| own.union(child));
            out.children.insert(element.clone(), merged);
        }
        out
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let both = |(element, child): (&PathElement, &FieldSet)| {
            let common = child.intersection(other.children.get(element)?);
            (!common.is_empty()).then(|| (element.clone(), common))
        };
        Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: self.children.iter().filter_map(both).collect(),
        }
    }

    /// The paths that are not in `other`; those below a member of `other` stay.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.without(other, false)
    }

    /// The paths that are not in `other`, and not below one of its members.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.without(other, true)
    }

    fn without(&self, other: &Self, recursive: bool) -> Self {
        let left = |(element, child): (&PathElement, &FieldSet)| {
            if recursive && other.members.contains(element) {
                return None;
            }
            let left = match other.children.get(element) {
                Some(theirs) => child.without(theirs, recursive),
                None => child.clone(),
            };
            (!left.is_empty()).then(|| (element.clone(), left))
        };
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: self.children.iter().filter_map(left).collect(),
        }
    }

    /// Adds the named fields of a type that lead to members, which are no members themselves.
    pub(super) fn with_named_fields(&self, schema: &Schema) -> Self {
        let mut out = Self { members: self.members.clone(), children: BTreeMap::new() };
        for (element, child) in &self.children {
            let below = match (element, schema.shape()) {
                (PathElement::Field(name), Shape::Struct(object)) => match object.fields.get(name.as_str()) {
                    Some(field) => {
                        out.members.insert(element.clone());
                        field.schema.clone()
                    }
                    None => Schema::any(),
                },
                (PathElement::Field(_), Shape::Map(map)) => map.values.clone(),
                (PathElement::Key(_) | PathElement::Value(_), Shape::List(list)) => list.items.clone(),
                _ => Schema::any(),
            };
            out.children.insert(element.clone(), child.with_named_fields(&below));
        }
        out
    }

    /// Every path, members before what lies below.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, out: &mut Vec<Vec<PathElement>>) {
        for member in &self.members {
            let mut path = prefix.clone();
            path.push(member.clone());
            out.push(path);
        }
        for (element, child) in &self.children {
            prefix.push(element.clone());
            child.collect(prefix, out);
            prefix.pop();
        }
    }

    /// As `FieldsV1`.
    pub fn to_fields_v1(&self) -> Value {
        let mut out = Map::new();
        for member in &self.members {
            out.insert(member.encode(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            let Value::Object(mut below) = child.to_fields_v1() else { unreachable!("a set encodes to an object") };
            if self.members.contains(element) && !below.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            if !below.is_empty() {
                out.insert(element.encode(), Value::Object(below));
            }
        }
        Value::Object(out)
    }

    /// Reads `FieldsV1`; kinds of elements that are not known are skipped.
    pub fn from_fields_v1(fields: &Value) -> Result<Self, SetError> {
        let Value::Object(fields) = fields else {
            return Err(SetError("fields are no object".to_owned()));
        };
        let mut out = Self::new();
        for (key, below) in fields {
            if key == "." {
                continue;
            }
            let Some(element) = PathElement::decode(key).map_err(SetError)? else { continue };
            let child = Self::from_fields_v1(below)?;
            let is_member = child.is_empty() || below.get(".").is_some();
            if is_member {
                out.members.insert(element.clone());
            }
            if !child.is_empty() {
                out.children.insert(element, child);
            }
        }
        Ok(out)
    }
}

/// A path a line.
impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.paths().iter().map(|path| path_text(path)).collect();
        f.write_str(&lines.join("\n"))
    }
}
