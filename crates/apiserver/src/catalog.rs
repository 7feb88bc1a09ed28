//! The resources served now: the built-in table and the established CustomResourceDefinitions, by group, version and name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::Kind;
use serde_json::Value;

/// The selectable fields of what is stored under one prefix.
#[derive(Clone, Debug, Default)]
pub struct StoredFields(Vec<String>);

impl StoredFields {
    pub fn of(kind: &Kind) -> StoredFields {
        StoredFields(kind.fields.iter().map(|field| field.to_string()).collect())
    }

    /// The fields' values in an object.
    pub fn values(&self, object: &Value) -> Vec<(String, String)> {
        self.0.iter().map(|path| (path.clone(), field_value(object, path))).collect()
    }
}

/// What stands at a dotted path, as a field selector compares it: absent reads as empty.
pub fn field_value(object: &Value, path: &str) -> String {
    let mut at = object;
    for step in path.split('.') {
        match at.get(step) {
            Some(next) => at = next,
            None => return String::new(),
        }
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The resources by group, version and plural name.
#[derive(Clone, Default)]
pub struct Catalog {
    by_name: BTreeMap<(String, String, String), Arc<Kind>>,
    /// In the table's order, which is discovery's.
    ordered: Vec<Arc<Kind>>,
}

impl Catalog {
    pub fn new(kinds: impl IntoIterator<Item = Arc<Kind>>) -> Catalog {
        let mut catalog = Catalog::default();
        for kind in kinds {
            let key = (kind.group.to_string(), kind.version.to_string(), kind.names.plural.to_string());
            if catalog.by_name.insert(key, Arc::clone(&kind)).is_none() {
                catalog.ordered.push(kind);
            }
        }
        catalog
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.by_name.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    pub fn all(&self) -> &[Arc<Kind>] {
        &self.ordered
    }

    /// The kinds as discovery documents are made of them.
    pub fn kinds(&self) -> Vec<&Kind> {
        self.ordered.iter().map(AsRef::as_ref).collect()
    }

    /// The kind of a group and version by its kind name.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.ordered.iter().find(|known| known.group == group && known.version == version && known.names.kind == kind)
    }
}
