//! What happens to an object between its decoding and its validation: defaults, system fields, and which parts a
//! create, an update or a subresource may touch.
//!
//! `k8s.io/apiserver pkg/registry/rest/{create,update}.go`: the order; each kind's strategy: the rest.

use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::object;
use machinery::schema::Schema;
use serde_json::{Map, Value, json};

use crate::complete::complete;
use crate::kind::{Generation, Kind, SchemaSource, Subresource};
use crate::{facts, meta};

/// What a new object gets from outside: decisions take no randomness and no clock of their own.
#[derive(Debug, Clone)]
pub struct Fresh<'a> {
    pub now: Timestamp,
    pub uid: &'a str,
    /// Five random characters for `generateName`.
    pub suffix: &'a str,
}

/// A generated name keeps at most this many bytes of its prefix (63 less the suffix).
const GENERATED_PREFIX_MAX: usize = 58;

impl Kind {
    pub fn schema(&self) -> Schema {
        match &self.schema {
            SchemaSource::Facts(name) => facts::schema(name),
            SchemaSource::Custom(schema) => schema.clone(),
        }
    }

    /// Fills in defaults, in place: first those that depend on other fields, then the types'.
    pub fn default(&self, object: &mut Value) {
        if let Some(defaults) = self.conditional_defaults {
            defaults(object);
        }
        match &self.schema {
            SchemaSource::Facts(name) => complete(object, name),
            SchemaSource::Custom(schema) => {
                schema.drop_nulls(object);
                schema.default(object);
            }
        }
    }

    /// Makes a decoded object one that may be created: system fields set, status dropped.
    pub fn prepare_for_create(&self, object: &mut Value, fresh: &Fresh) {
        let metadata = object::metadata_mut(object);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata.remove(field);
        }
        if !self.namespaced() {
            metadata.remove("namespace");
        }
        metadata.insert("creationTimestamp".to_owned(), json!(second(fresh.now)));
        metadata.insert("uid".to_owned(), json!(fresh.uid));
        if !matches!(self.generation, Generation::None | Generation::OfSpecUnstarted) {
            metadata.insert("generation".to_owned(), json!(1));
        }
        if object::name(object).is_empty() {
            let prefix = object::at(object, &["metadata", "generateName"]).and_then(Value::as_str).unwrap_or_default();
            if !prefix.is_empty() {
                let name = format!("{}{}", cut(prefix, GENERATED_PREFIX_MAX), fresh.suffix);
                object::set_name(object, &name);
            }
        }
        if self.has_status()
            && !self.created_with_status
            && let Value::Object(fields) = object
        {
            fields.remove("status");
        }
        if let Some(rule) = self.on_create {
            rule(object);
        }
        self.complete(object);
    }

    /// What every object of the kind has before anything is written into it: the creator owns only what goes beyond.
    pub fn empty(&self) -> Value {
        match &self.schema {
            SchemaSource::Facts(name) => crate::complete::skeleton(name),
            SchemaSource::Custom(_) => json!({}),
        }
    }

    /// Completes the object with what its type always has.
    fn complete(&self, object: &mut Value) {
        if let SchemaSource::Facts(name) = &self.schema {
            complete(object, name);
        }
    }

    /// Makes a decoded update one that may be stored over `old`.
    pub fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        keep_system_fields(new, old);
        if self.has_status() {
            copy_field(new, old, "status");
        }
        if let Some(rule) = self.on_update {
            rule(new, old);
        }
        if self.generation.counts(new, old) {
            object::set_generation(new, object::generation(old) + 1);
        }
    }

    /// The same for an update through a subresource: what it may not touch comes from `old`.
    pub fn prepare_for_subresource(&self, subresource: &Subresource, new: &mut Value, old: &Value) {
        keep_system_fields(new, old);
        match subresource {
            Subresource::Status => self.prepare_for_status(new, old),
            Subresource::Finalize => {
                let finalizers = object::at(new, &["spec", "finalizers"]).cloned();
                copy_field(new, old, "status");
                copy_field(new, old, "spec");
                set_or_remove(new, &["spec", "finalizers"], finalizers);
            }
            Subresource::EphemeralContainers => {
                let containers = object::at(new, &["spec", "ephemeralContainers"]).cloned();
                *new = with_metadata_of(old, new);
                set_or_remove(new, &["spec", "ephemeralContainers"], containers);
            }
            Subresource::Resize => {
                let wanted = new["spec"].clone();
                *new = with_metadata_of(old, new);
                take_resources(&mut new["spec"], &wanted);
            }
            Subresource::Approval => {
                let conditions = object::at(new, &["status", "conditions"]).cloned();
                copy_field(new, old, "spec");
                copy_field(new, old, "status");
                set_or_remove(new, &["status", "conditions"], conditions);
            }
            _ => {}
        }
        if matches!(subresource, Subresource::EphemeralContainers | Subresource::Resize)
            && self.generation.counts(new, old)
        {
            object::set_generation(new, object::generation(old) + 1);
        }
    }

    fn prepare_for_status(&self, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        let metadata = new.get("metadata").cloned();
        *new = old.clone();
        match status {
            Some(status) => new["status"] = status,
            None => {
                object::take(new, &["status"]);
            }
        }
        if let Some(metadata) = metadata {
            if self.status_keeps_metadata {
                for field in ["resourceVersion", "managedFields"] {
                    set_or_remove(new, &["metadata", field], metadata.get(field).cloned());
                }
            } else {
                new["metadata"] = metadata;
            }
        }
        if let Some(rule) = self.on_status_update {
            rule(new, old);
        }
        self.complete(new);
    }

    /// Every failure of a change through a subresource, where that has rules of its own.
    pub fn validate_subresource(&self, subresource: &Subresource, new: &Value, old: &Value) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(rule) = self.validate_subresource {
            meta::validate_update(self, new, old, &mut errors);
            rule(subresource, new, old, &mut errors);
        }
        errors
    }

    /// Every failure of an object: its metadata, and the kind's own rules.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if !self.metadata_last() {
            self.validate_metadata(new, old, &mut errors);
        }
        if let Some(rule) = self.validate {
            rule(new, old, &mut errors);
        }
        if self.metadata_last() && errors.is_empty() {
            self.validate_metadata(new, old, &mut errors);
        }
        errors
    }

    fn validate_metadata(&self, new: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
        match old {
            Some(old) => meta::validate_update(self, new, old, errors),
            None => meta::validate_create(self, new, errors),
        }
    }

    /// Whose own rules say nothing of the metadata: it is looked at only when there is nothing else to complain of.
    /// `kubernetes/apiserver pkg/registry/rest/create.go: ValidateCreate`.
    fn metadata_last(&self) -> bool {
        matches!((self.group.as_ref(), self.names.plural.as_ref()), ("", "events") | ("policy", "poddisruptionbudgets"))
    }

    /// The fields apply never owns because the request cannot change them; `None` is the main resource.
    pub fn reset_fields(&self, subresource: Option<&Subresource>) -> Vec<Vec<&'static str>> {
        match subresource {
            // What is asked to be signed is nobody's to change.
            None if self.subresources.contains(&Subresource::Approval) => vec![vec!["spec"], vec!["status"]],
            None if self.has_status() => vec![vec!["status"]],
            Some(Subresource::Status) if self.status_keeps_metadata => {
                let metadata = ["labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp"];
                let metadata = metadata.iter().map(|field| vec!["metadata", field]);
                metadata.chain([vec!["spec"]]).collect()
            }
            Some(Subresource::Status) => vec![vec!["spec"]],
            _ => Vec::new(),
        }
    }

    /// Turns an object of this version into the form it is stored in.
    pub fn to_storage(&self, object: &mut Value) {
        if let Some(conversion) = self.conversion {
            (conversion.to_storage)(object);
            let (group, version) = &self.storage_version;
            if let Some(stored) = crate::by_kind(group, version, &self.names.kind) {
                stored.complete(object);
            }
        }
        object["apiVersion"] = json!(self.storage_api_version());
    }

    /// Turns a stored object into this version.
    pub fn from_storage(&self, object: &mut Value) {
        if let Some(conversion) = self.conversion {
            (conversion.from_storage)(object);
            self.complete(object);
        }
        object["apiVersion"] = json!(self.api_version());
    }
}

impl Generation {
    /// Whether the step from `old` to `new` is one to count.
    fn counts(self, new: &Value, old: &Value) -> bool {
        match self {
            Generation::None | Generation::Initial => false,
            Generation::OfSpec | Generation::OfSpecUnstarted => new.get("spec") != old.get("spec"),
            Generation::OfTemplate => new.get("template") != old.get("template"),
            Generation::OfSpecAndAnnotations => {
                new.get("spec") != old.get("spec") || object::annotations(new) != object::annotations(old)
            }
            Generation::OfAll | Generation::OfEverything => {
                let skip = |field: &String| field == "metadata" || (field == "status" && self == Generation::OfAll);
                let part = |of: &Value| -> Map<String, Value> {
                    let fields = of.as_object().into_iter().flatten();
                    fields.filter(|(field, _)| !skip(field)).map(|(k, v)| (k.clone(), v.clone())).collect()
                };
                part(new) != part(old)
            }
        }
    }
}

/// Identity, age and deletion come from the stored object where the request leaves them out, and deletion always.
fn keep_system_fields(new: &mut Value, old: &Value) {
    let field = |name: &str| object::at(old, &["metadata", name]).cloned();
    for name in ["generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let always = name == "generation" || object::is_being_deleted(old);
        if always || object::at(new, &["metadata", name]).is_some() {
            set_or_remove(new, &["metadata", name], field(name));
        }
    }
    for name in ["uid", "creationTimestamp", "namespace"] {
        if object::at(new, &["metadata", name]).is_none_or(facts::is_zero) {
            set_or_remove(new, &["metadata", name], field(name));
        }
    }
    object::metadata_mut(new).remove("selfLink");
}

/// The old object, as the request's version of it: neither labels nor owners change through a subresource.
fn with_metadata_of(old: &Value, new: &Value) -> Value {
    let mut merged = old.clone();
    for field in ["resourceVersion", "managedFields"] {
        set_or_remove(&mut merged, &["metadata", field], object::at(new, &["metadata", field]).cloned());
    }
    merged
}

/// A resize takes the resources and resize policies of the containers there are, and the pod's own resources. Other
/// containers than there are it takes as they come, for validation to refuse.
/// `kubernetes/kubernetes pkg/registry/core/pod/strategy.go: dropNonResizeUpdates`.
fn take_resources(spec: &mut Value, wanted: &Value) {
    let names = |spec: &Value, list: &str| -> Vec<Value> {
        spec[list].as_array().into_iter().flatten().map(|container| container["name"].clone()).collect()
    };
    for list in ["containers", "initContainers"] {
        if names(spec, list) != names(wanted, list) {
            set_or_remove(spec, &[list], wanted.get(list).cloned());
            continue;
        }
        let asked = wanted[list].as_array().into_iter().flatten();
        for (container, asked) in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().zip(asked) {
            for field in ["resources", "resizePolicy"] {
                set_or_remove(container, &[field], asked.get(field).cloned());
            }
        }
    }
    // A client that knows nothing of them leaves a pod's own resources as they are.
    if let Some(resources) = wanted.get("resources") {
        object::put(spec, &["resources"], resources.clone());
    }
}

fn copy_field(new: &mut Value, old: &Value, field: &str) {
    set_or_remove(new, &[field], old.get(field).cloned());
}

pub(crate) fn set_or_remove(object: &mut Value, path: &[&str], value: Option<Value>) {
    match value {
        Some(value) => object::put(object, path, value),
        None => {
            object::take(object, path);
        }
    }
}

/// RFC 3339 to the second, as metav1.Time is written.
pub fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
