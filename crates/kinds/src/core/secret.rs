//! `Secret` (v1): confidential data for pods.

use crate::columns::{age, column, column_of, count, name, named, text};
use crate::defaults::set_unset;
use crate::kind::{BuiltInColumns, Declaration, Kind, Str};
use crate::validate::{At, data, immutable};
use base64::Engine;
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
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
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(secret: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(secret);
    let (data, of) = (at.field("data"), at.field("type"));
    if let Some(old) = old {
        immutable(&of, &At::root(old).field("type"), errors);
        data::keeps(&at, &At::root(old), &["data"], errors);
    }
    data::keys(&data, errors);
    if data::bytes(&data) > data::BYTES_MAX {
        errors.push(FieldError::too_long(&data.path, data::BYTES_MAX));
    }
    let has = |key: &str| data.value.get(key).is_some();
    let mut need = |key: &str| {
        if !has(key) {
            errors.push(FieldError::required(&data.path.key(key), ""));
        }
    };
    match of.text() {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if machinery::object::annotation(secret, ACCOUNT).is_none_or(str::is_empty) {
                let path = Path::new("metadata").child("annotations").key(ACCOUNT);
                errors.push(FieldError::required(&path, ""));
            }
        }
        "kubernetes.io/dockercfg" => docker(&data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => docker(&data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" if data.field("ssh-privatekey").is_empty() => {
            errors.push(FieldError::required(&data.path.key("ssh-privatekey"), ""));
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

/// A registry's credentials are a JSON object; what they are is not told.
fn docker(data: &At, key: &str, errors: &mut FieldErrors) {
    let path = data.path.key(key);
    if data.value.get(key).is_none() {
        return errors.push(FieldError::required(&path, ""));
    }
    let text = data.value[key].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let detail = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let of = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            format!("json: cannot unmarshal {of} into Go value of type map[string]interface {{}}")
        }
        Err(_) if bytes.trim_ascii().is_empty() => "unexpected end of JSON input".to_owned(),
        Err(error) => data::json_complaint(&bytes, &error),
    };
    errors.push(FieldError::invalid(&path, "<secret contents redacted>", detail));
}

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
    head: &[
        named("Name", 0),
        column_of("Type", "string", "io.k8s.api.core.v1.Secret", "type"),
        column_of("Data", "string", "io.k8s.api.core.v1.Secret", "data"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/type")), json!(count(o, "/data")), age(o, now)]
}
