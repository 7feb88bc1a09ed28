//! `Namespace` (v1): a scope for names, which deletes all within it when it is deleted.

use crate::columns::{age, column, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str, Subresource, Verbs};
use crate::meta;
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::object;
use serde_json::{Value, json};

pub static NAMESPACE: Kind = Declaration {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short: &[Str::Borrowed("ns")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.Namespace",
    verbs: Verbs::ALL.without(Verbs::DELETE_COLLECTION),
    subresources: &[Subresource::Finalize, Subresource::Status],
    name_rule: NameRule::Label,
    fields: &[Str::Borrowed("status.phase")],
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    on_create: Some(on_create),
    on_update: Some(on_update),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(namespace: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(namespace);
    if old.is_none() {
        let path = at.fields(&["spec", "finalizers"]).path;
        for name in at.fields(&["spec", "finalizers"]).texts() {
            errors.invalid_each(&path, name, machinery::names::qualified_name(name));
            if !name.contains('/') && !meta::is_standard_finalizer(name) {
                errors.push(FieldError::invalid(&path, name, meta::NOT_STANDARD));
            }
        }
    }
    if old.is_some_and(|old| old["status"] != namespace["status"]) {
        let phase = at.fields(&["status", "phase"]).reported_at(Path::new("status").child("Phase"));
        let deleting = object::is_being_deleted(namespace);
        if !deleting && !phase.is("Active") {
            phase.invalid(errors, "may only be 'Active' if `deletionTimestamp` is empty");
        } else if deleting && !phase.is("Terminating") {
            phase.invalid(errors, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
    }
}

/// Every namespace carries its own name as a label.
fn defaults(namespace: &mut Value) {
    let name = object::name(namespace).to_owned();
    if !name.is_empty() {
        object::labels_mut(namespace).insert("kubernetes.io/metadata.name".to_owned(), json!(name));
    }
}

/// Only the `finalize` subresource changes finalizers.
fn on_update(namespace: &mut Value, old: &Value) {
    let finalizers = object::at(old, &["spec", "finalizers"]).cloned();
    crate::prepare::set_or_remove(namespace, &["spec", "finalizers"], finalizers);
}

/// A new namespace is active and cannot vanish before its contents.
fn on_create(namespace: &mut Value) {
    namespace["status"] = json!({"phase": "Active"});
    let mut finalizers = namespace["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|name| name == "kubernetes") {
        finalizers.push(json!("kubernetes"));
    }
    object::put(namespace, &["spec", "finalizers"], Value::Array(finalizers));
    defaults(namespace);
}

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Status", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/status/phase")), age(o, now)]
}
