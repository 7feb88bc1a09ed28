//! The resources served now: the built-in table and the established CustomResourceDefinitions, by group, version and name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::Kind;
use kinds::facts::Type;
use kinds::kind::SchemaSource;
use serde_json::Value;

/// The selectable fields of what is stored under one prefix, each with what it reads as where it is absent.
#[derive(Clone, Debug, Default)]
pub struct StoredFields(Vec<(String, &'static str)>);

impl StoredFields {
    pub fn of(kind: &Kind) -> StoredFields {
        StoredFields(kind.fields.iter().map(|field| (field.to_string(), absent(kind, field))).collect())
    }

    /// The fields' values in an object.
    pub fn values(&self, object: &Value) -> Vec<(String, String)> {
        self.0.iter().map(|(path, absent)| (path.clone(), field_value(object, path, absent))).collect()
    }
}

/// What a field of the kind reads as where an object lacks it: the zero of its type.
pub fn absent(kind: &Kind, path: &str) -> &'static str {
    let SchemaSource::Facts(definition) = kind.schema else { return "" };
    match kinds::facts::field_at(definition, stored_path(path).split('.')).map(|field| &field.of) {
        Some(Type::Bool) => "false",
        Some(Type::Int32 | Type::Int64) => "0",
        _ => "",
    }
}

/// Where the value of a selectable field stands; one of them is selected by another name than its own.
fn stored_path(path: &str) -> &str {
    if path == "status.successful" { "status.succeeded" } else { path }
}

/// What stands at a dotted path, as a field selector compares it.
pub fn field_value(object: &Value, path: &str, absent: &str) -> String {
    let mut at = object;
    for step in stored_path(path).split('.') {
        match at.get(step) {
            Some(next) => at = next,
            None => return absent.to_owned(),
        }
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => absent.to_owned(),
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
