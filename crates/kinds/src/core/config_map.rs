//! `ConfigMap` (v1): plain configuration for pods.

use crate::columns::{age, column, column_of, count, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str};
use crate::validate::{At, data};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use serde_json::Value;
use serde_json::json;

pub static CONFIG_MAP: Kind = Declaration {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short: &[Str::Borrowed("cm")],
    schema: "io.k8s.api.core.v1.ConfigMap",
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(map: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(map);
    if let Some(old) = old {
        data::keeps(&at, &At::root(old), &["data", "binaryData"], errors);
    }
    let (data, binary) = (at.field("data"), at.field("binaryData"));
    data::keys(&data, errors);
    data::keys(&binary, errors);
    for (key, entry) in data.entries().filter(|(key, _)| binary.value.get(key).is_some()) {
        errors.push(FieldError::invalid(&entry.path, key, "duplicate of key present in binaryData"));
    }
    let plain: usize = data.entries().map(|(_, value)| value.text().len()).sum();
    if plain + data::bytes(&binary) > data::BYTES_MAX {
        errors.push(FieldError::too_long(&Path::new(""), data::BYTES_MAX));
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Data", "string", "io.k8s.api.core.v1.ConfigMap", "data"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/data") + count(o, "/binaryData")), age(o, now)]
}
