//! What a claim on a volume asks for.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use super::At;
use super::resources::amount;
use super::selector::label_selector;

pub const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The access modes of a claim or a volume.
pub fn access_modes(at: &At, errors: &mut FieldErrors) {
    if at.is_empty() {
        at.required(errors, "at least 1 access mode is required");
    }
    let modes = at.texts();
    for mode in modes.iter().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.push(FieldError::not_supported(&at.path, *mode, ACCESS_MODES));
    }
    let others = modes.iter().any(|mode| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(mode));
    if modes.contains(&"ReadWriteOncePod") && others {
        at.forbidden(errors, "may not use ReadWriteOncePod with other access modes");
    }
}

/// The `spec` of a PersistentVolumeClaim.
pub fn spec(at: &At, errors: &mut FieldErrors) {
    if let Some(selector) = at.set("selector") {
        label_selector(&selector, errors);
    }
    access_modes(&at.field("accessModes"), errors);
    let storage =
        at.fields(&["resources", "requests", "storage"]).reported_at(at.path.child("resources").key("storage"));
    if !storage.is_set() {
        storage.required(errors, "");
    } else if amount(storage.value).sign() <= 0 {
        let shown = amount(storage.value).to_string();
        errors.push(FieldError::invalid(&storage.path, shown, "must be greater than zero"));
    }
    class_name(&at.field("storageClassName"), errors);
    at.field("volumeMode").optional_one_of(&["Block", "Filesystem"], errors);
    let (source, reference) = (at.set("dataSource"), at.set("dataSourceRef"));
    let known = |source: &At| {
        let (group, kind) = (source.field("apiGroup").text(), source.field("kind").text());
        matches!((group, kind), ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot"))
    };
    if source.as_ref().is_some_and(|source| !known(source)) {
        // Upstream drops a source it does not know, and its copy, before it looks at them.
        return class_name(&at.field("volumeAttributesClassName"), errors);
    }
    source.iter().chain(&reference).for_each(|source| data_source(source, errors));
    if let (Some(source), Some(reference)) = (source, reference) {
        let detail = if !reference.field("namespace").is_empty() {
            "may not be specified when dataSourceRef.namespace is specified"
        } else if ["apiGroup", "kind", "name"]
            .iter()
            .any(|field| source.field(field).value != reference.field(field).value)
        {
            "must match dataSourceRef"
        } else {
            ""
        };
        if !detail.is_empty() {
            errors.push(FieldError::invalid(&at.path, super::shown("{}"), detail));
        }
    }
    class_name(&at.field("volumeAttributesClassName"), errors);
}

/// The name of a class; empty names none.
pub fn class_name(at: &At, errors: &mut FieldErrors) {
    if !at.is_empty() {
        at.invalid_each(errors, names::dns1123_subdomain(at.text()));
    }
}

fn data_source(at: &At, errors: &mut FieldErrors) {
    let [group, kind, name, namespace] = ["apiGroup", "kind", "name", "namespace"].map(|name| at.field(name));
    name.must_be_set(errors);
    kind.must_be_set(errors);
    if group.is_empty() && !kind.is("PersistentVolumeClaim") {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(&at.path, kind.text(), detail));
    }
    if !group.is_empty() {
        group.invalid_each(errors, names::dns1123_subdomain(group.text()));
    }
    if !namespace.is_empty() {
        namespace.invalid_each(errors, names::dns1123_label(namespace.text()));
    }
}
