//! The difference of two values of one type, as sets of fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::PathElement;
use super::set::FieldSet;
use super::walk::{Atom, associative, atom, field_of, fields, is_leaf, item_element, items};
use crate::schema::{List, Schema};

/// What the second value changed. No field is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    /// The changes outside of `fields`.
    #[must_use]
    pub fn without(self, fields: &FieldSet) -> Self {
        if fields.is_empty() {
            return self;
        }
        Self {
            added: self.added.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
            removed: self.removed.recursive_difference(fields),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Compares two objects of one type.
pub fn compare(old: &Value, new: &Value, schema: &Schema) -> Comparison {
    let mut walk = Walk { path: Vec::new(), out: Comparison::default() };
    walk.value(Some(old), Some(new), schema);
    walk.out
}

struct Walk {
    path: Vec<PathElement>,
    out: Comparison,
}

impl Walk {
    fn value(&mut self, old: Option<&Value>, new: Option<&Value>, schema: &Schema) {
        let (was, is) = (atom(schema, old), atom(schema, new));
        let decided = |value: Option<&Value>| value.is_some_and(|value| !value.is_null());
        let mut leaf = false;
        match (decided(old), decided(new)) {
            (_, false) if new.is_none() || decided(old) => leaf |= self.one(old, new, schema, was),
            (false, _) => leaf |= self.one(old, new, schema, is),
            _ if was == is => leaf |= self.one(old, new, schema, is),
            _ => {
                self.one(old, new, schema, was);
                leaf |= self.one(old, new, schema, is);
            }
        }
        if !leaf {
            match (old, new) {
                (None, _) => self.out.added.insert(&self.path),
                (_, None) => self.out.removed.insert(&self.path),
                _ => {}
            }
        }
    }

    /// Compares as an atom of one kind; says whether it was a leaf.
    fn one(&mut self, old: Option<&Value>, new: Option<&Value>, schema: &Schema, atom: Atom) -> bool {
        let both_empty = match atom {
            Atom::Scalar => true,
            Atom::Map => [old, new].iter().all(|side| fields(*side).is_none_or(serde_json::Map::is_empty)),
            Atom::List => [old, new].iter().all(|side| items(*side).is_none_or(<[Value]>::is_empty)),
        };
        if both_empty || is_leaf(schema, atom) {
            match (old, new) {
                (None, _) => self.out.added.insert(&self.path),
                (_, None) => self.out.removed.insert(&self.path),
                (Some(old), Some(new)) if old != new => self.out.modified.insert(&self.path),
                _ => {}
            }
            return true;
        }
        match (atom, associative(schema)) {
            (Atom::Map, _) => self.fields(old, new, schema),
            (Atom::List, Some(list)) => self.items(old, new, list),
            _ => unreachable!("scalars and other lists are leaves"),
        }
        false
    }

    fn fields(&mut self, old: Option<&Value>, new: Option<&Value>, schema: &Schema) {
        let (old, new) = (fields(old), fields(new));
        let only_new = new.into_iter().flatten().filter(|(name, _)| old.is_none_or(|old| !old.contains_key(*name)));
        for name in old.into_iter().flatten().chain(only_new).map(|(name, _)| name) {
            let (below, _) = field_of(schema, name);
            self.path.push(PathElement::field(name));
            self.value(old.and_then(|side| side.get(name)), new.and_then(|side| side.get(name)), &below);
            self.path.pop();
        }
    }

    fn items(&mut self, old: Option<&Value>, new: Option<&Value>, list: &List) {
        let mut all: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in items(old).into_iter().flatten() {
            if let Ok(element) = item_element(list, item) {
                all.entry(element).or_default().0.push(item);
            }
        }
        for item in items(new).into_iter().flatten() {
            if let Ok(element) = item_element(list, item) {
                all.entry(element).or_default().1.push(item);
            }
        }
        for (element, (old, new)) in all {
            self.path.push(element);
            match (old.as_slice(), new.as_slice()) {
                (old @ ([] | [_]), new @ ([] | [_])) => {
                    self.value(old.first().copied(), new.first().copied(), &list.items);
                }
                // Repeated items are owned together, as one value.
                ([_, _, ..], [_, _, ..]) => {
                    if old != new {
                        self.out.modified.insert(&self.path);
                    }
                }
                ([_, _, ..], new) => {
                    if let Some(new) = new.first() {
                        self.value(None, Some(new), &list.items);
                    }
                    self.out.removed.insert(&self.path);
                }
                (old, _) => {
                    if let Some(old) = old.first() {
                        self.value(Some(old), None, &list.items);
                    }
                    self.out.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
    }
}
