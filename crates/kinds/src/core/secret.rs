//! `Secret` (v1): confidential data for pods.

use crate::columns::{age, column, count, name, named, text};
use crate::defaults::set_unset;
use crate::kind::{BuiltInColumns, Declaration, Kind, Str};
use base64::Engine;
use jiff::Timestamp;
use serde_json::{Value, json};

pub static SECRET: Kind = Declaration {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    schema: "io.k8s.api.core.v1.Secret",
    fields: &[Str::Borrowed("type")],
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

/// `stringData` is written into `data`, in base64, and not kept.
fn defaults(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    set_unset(fields, "type", "Opaque");
    let Some(Value::Object(plain)) = fields.remove("stringData") else { return };
    if let Some(data) = crate::defaults::nested(fields, "data") {
        for (key, value) in plain {
            if let Some(text) = value.as_str() {
                data.insert(key, json!(base64::engine::general_purpose::STANDARD.encode(text)));
            }
        }
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Type", "string"), column("Data", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/type")), json!(count(o, "/data")), age(o, now)]
}
