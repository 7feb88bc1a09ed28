//! `VolumeAttributesClass` (storage.k8s.io/v1): changeable attributes of volumes.

use crate::columns::{age, column, column_of, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Str};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;
use serde_json::json;

pub static VOLUME_ATTRIBUTES_CLASS: Kind = Declaration {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short: &[Str::Borrowed("vac")],
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.VolumeAttributesClass",
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/storage/validation/validation.go: ValidateVolumeAttributesClass`.
fn validate(class: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(class);
    if let Some(old) = old {
        for field in ["driverName", "parameters"].map(|name| at.field(name)) {
            if Some(field.value) != old.get(field.path.to_string()) {
                field.forbidden(errors, format!("updates to {} are forbidden.", field.path));
            }
        }
    }
    let driver = at.field("driverName");
    if driver.must_be_set(errors) {
        let name = driver.text().to_lowercase();
        errors.invalid_each(&driver.path, &name, names::qualified_name(&name));
    }
    let parameters = at.field("parameters");
    if parameters.entries().any(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid(&parameters.path, "", "field can not be empty."));
    }
    if parameters.is_empty() {
        parameters.required(errors, "must contain at least one key/value pair");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("DriverName", "string", "io.k8s.api.storage.v1.VolumeAttributesClass", "driverName"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/driverName")), age(o, now)]
}
