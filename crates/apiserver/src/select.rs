//! Label and field selectors over cached objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::fields::{FieldSelector, not_known, not_supported};
use machinery::labels::Selector;
use machinery::status::Status;
use serde_json::Value;

use crate::cache::Object;
use crate::catalog;
use crate::conversion;
use crate::query::ListOptions;
use crate::server::Inner;

/// Which of a kind's objects a list or watch wants.
pub struct Filter {
    labels: Selector,
    fields: FieldSelector,
}

impl Filter {
    pub fn new(kind: &Kind, options: &ListOptions) -> Result<Filter, Status> {
        let labels = Selector::parse(&options.label_selector).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(&options.field_selector).map_err(Status::bad_request)?;
        // Only kinds with selectable fields of their own have a conversion that knows what they lack.
        let generic = kind.fields.is_empty() && matches!(kind.schema, SchemaSource::Facts(_));
        let mut known = vec!["metadata.name"];
        if kind.namespaced() || generic {
            known.push("metadata.namespace");
        }
        known.extend(kind.fields.iter().map(AsRef::as_ref));
        if let Some(field) = fields.unknown(&known) {
            return Err(Status::bad_request(if generic { not_known(field, &known) } else { not_supported(field) }));
        }
        Ok(Filter { labels, fields })
    }

    /// Everything passes.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it asks for fields that a webhook must be asked for first.
    pub fn by_converted_fields(&self, kind: &Kind) -> bool {
        kind.webhook_conversion.is_some() && !self.fields.is_empty()
    }

    /// The objects that pass, in their order. Those whose fields only a webhook knows are converted together.
    pub async fn choose(
        &self,
        server: &Inner,
        kind: &Kind,
        mut objects: Vec<Arc<Object>>,
    ) -> Result<Vec<Arc<Object>>, Status> {
        if !self.by_converted_fields(kind) {
            objects.retain(|object| self.matches(kind, object));
            return Ok(objects);
        }
        objects.retain(|object| self.labels.matches(&object.labels));
        let mut values: Vec<Value> = objects.iter().map(|object| object.value()).collect();
        conversion::all(server, kind, &mut values).await?;
        let mut values = values.iter();
        objects.retain(|object| {
            let value = values.next().unwrap_or(&Value::Null);
            self.fields.matches(|field| match field {
                "metadata.name" => object.name().to_owned(),
                "metadata.namespace" => object.namespace().to_owned(),
                _ => catalog::field_value(kind, value, field),
            })
        });
        Ok(objects)
    }

    /// Whether an object passes that has a name, and neither labels nor a namespace.
    pub fn matches_name(&self, name: &str) -> bool {
        let labels = BTreeMap::<String, String>::new();
        self.labels.matches(&labels)
            && self.fields.matches(|field| if field == "metadata.name" { name.to_owned() } else { String::new() })
    }

    pub fn matches(&self, kind: &Kind, object: &Object) -> bool {
        self.labels.matches(&object.labels) && self.fields.matches(|field| value(kind, object, field))
    }
}

fn value(kind: &Kind, object: &Object, field: &str) -> String {
    match field {
        "metadata.name" => object.name().to_owned(),
        "metadata.namespace" => object.namespace().to_owned(),
        _ => match object.fields.iter().find(|(known, _)| known == field) {
            Some((_, value)) => value.clone(),
            // A field of another version than the stored one.
            None => crate::registry::from_storage(kind, object.value())
                .map(|value| catalog::field_value(kind, &value, field))
                .unwrap_or_default(),
        },
    }
}
