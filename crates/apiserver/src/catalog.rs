//! The resources served now: the built-in table and the established CustomResourceDefinitions, by group, version and name.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::Kind;
use kinds::facts::Type;
use kinds::kind::SchemaSource;
use serde_json::Value;

/// The selectable fields of what is stored under one prefix.
#[derive(Clone, Debug, Default)]
pub struct StoredFields(Vec<StoredField>);

/// One field that can be selected, and how it is read.
#[derive(Clone, Debug)]
struct StoredField {
    name: String,
    /// Where its value stands; of several places the first that has one.
    places: Vec<String>,
    absent: &'static str,
}

impl StoredFields {
    pub fn of(kind: &Kind) -> StoredFields {
        StoredFields(kind.fields.iter().map(|name| StoredField::of(kind, name)).collect())
    }

    /// The fields' values in an object.
    pub fn values(&self, object: &Value) -> Vec<(String, String)> {
        self.0.iter().map(|field| (field.name.clone(), field.value(object))).collect()
    }
}

/// The value of one field of the kind in an object, as a field selector compares it.
pub fn field_value(kind: &Kind, object: &Value, name: &str) -> String {
    StoredField::of(kind, name).value(object)
}

impl StoredField {
    fn of(kind: &Kind, name: &str) -> StoredField {
        let elsewhere = kind.fields_elsewhere.iter().find(|(field, _)| *field == name);
        let places =
            elsewhere.map_or_else(|| vec![name.to_owned()], |(_, at)| at.iter().map(|p| (*p).to_owned()).collect());
        let absent = places.first().map_or("", |place| zero(kind, place));
        StoredField { name: name.to_owned(), places, absent }
    }

    fn value(&self, object: &Value) -> String {
        let found = self.places.iter().find_map(|place| text_at(object, place).filter(|text| !text.is_empty()));
        found.unwrap_or_else(|| self.absent.to_owned())
    }
}

/// What a field of the kind reads as where an object lacks it: the zero of its type.
fn zero(kind: &Kind, path: &str) -> &'static str {
    let SchemaSource::Facts(definition) = kind.schema else { return "" };
    match kinds::facts::field_at(definition, path.split('.')).map(|field| &field.of) {
        Some(Type::Bool) => "false",
        Some(Type::Int32 | Type::Int64) => "0",
        _ => "",
    }
}

/// What stands at a dotted path, as text.
fn text_at(object: &Value, path: &str) -> Option<String> {
    let at = path.split('.').try_fold(object, |at, step| at.get(step))?;
    match at {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
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
