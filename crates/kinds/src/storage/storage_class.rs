//! `StorageClass` (storage.k8s.io/v1): a named way to provision volumes.

use crate::columns::{age, column, column_of, flag_or, named, text, text_or};
use crate::defaults::set_missing;
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Str};
use crate::validate::selector::label_key;
use crate::validate::{At, immutable_unshown};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;
use serde_json::json;

pub static STORAGE_CLASS: Kind = Declaration {
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short: &[Str::Borrowed("sc")],
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.StorageClass",
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(class: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(class);
    if let Some(old) = old {
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable_unshown(&at.field(field), &At::root(old).field(field), errors);
        }
        return;
    }
    let provisioner = at.field("provisioner");
    if provisioner.must_be_set(errors) {
        let name = provisioner.text().to_lowercase();
        errors.invalid_each(&provisioner.path, &name, names::qualified_name(&name));
    }
    let parameters = at.field("parameters");
    if parameters.entries().any(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid(&parameters.path, "", "field can not be empty."));
    }
    at.field("reclaimPolicy").optional_one_of(&["Delete", "Retain"], errors);
    at.field("volumeBindingMode").optional_one_of(&["Immediate", "WaitForFirstConsumer"], errors);
    for term in at.field("allowedTopologies").items() {
        for requirement in term.field("matchLabelExpressions").items() {
            requirement.field("values").must_be_set(errors);
            label_key(&requirement.field("key"), errors);
        }
    }
}

fn defaults(class: &mut Value) {
    let Some(fields) = class.as_object_mut() else { return };
    set_missing(fields, "reclaimPolicy", "Delete");
    set_missing(fields, "volumeBindingMode", "Immediate");
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Provisioner", "string", "io.k8s.api.storage.v1.StorageClass", "provisioner"),
        column_of("ReclaimPolicy", "string", "io.k8s.api.storage.v1.StorageClass", "reclaimPolicy"),
        column_of("VolumeBindingMode", "string", "io.k8s.api.storage.v1.StorageClass", "volumeBindingMode"),
        column_of("AllowVolumeExpansion", "string", "io.k8s.api.storage.v1.StorageClass", "allowVolumeExpansion"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        json!(shown_name(o)),
        json!(text(o, "/provisioner")),
        text_or(o, "/reclaimPolicy", "Delete"),
        text_or(o, "/volumeBindingMode", "Immediate"),
        json!(flag_or(o, "/allowVolumeExpansion", false)),
        age(o, now),
    ]
}

fn shown_name(o: &Value) -> String {
    let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let marked = marks.iter().any(|mark| machinery::object::annotation(o, mark) == Some("true"));
    format!("{}{}", machinery::object::name(o), if marked { " (default)" } else { "" })
}
