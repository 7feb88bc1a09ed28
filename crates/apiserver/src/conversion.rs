//! Objects from one version of their kind to another: built-in ones by their own rules, custom ones by name alone or by
//! the webhook that their definition names.
//!
//! `kubernetes/apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go`: which answers are taken.

use std::sync::Arc;
use std::time::Duration;

use admit::hooks::Client;
use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use kinds::Kind;
use machinery::go;
use machinery::object;
use machinery::status::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::hooks::call;
use crate::registry;
use crate::server::Inner;

/// `kubernetes/apiextensions-apiserver pkg/apiserver/conversion/webhook_converter.go`: the client's timeout.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An object of `from` as one of `to`, another version of it.
pub async fn between(server: &Inner, from: &Arc<Kind>, to: &Arc<Kind>, mut value: Value) -> Result<Value, Status> {
    if from.group == to.group && from.version == to.version {
        return Ok(value);
    }
    if to.webhook_conversion.is_none() {
        from.to_storage(&mut value);
    }
    one(server, to, value).await
}

/// A stored object in a kind's version, as it is served.
pub async fn one(server: &Inner, kind: &Kind, value: Value) -> Result<Value, Status> {
    let mut values = vec![value];
    all(server, kind, &mut values).await?;
    values.pop().ok_or_else(|| Status::internal("a converted object is missing"))
}

/// The same for many, which a webhook is asked about at once.
pub async fn all(server: &Inner, kind: &Kind, values: &mut [Value]) -> Result<(), Status> {
    by_webhook(server, kind, &kind.api_version(), values).await?;
    for value in values {
        *value = registry::from_storage(kind, value.take())?;
    }
    Ok(())
}

/// An object in the version that is stored.
pub async fn to_storage(server: &Inner, kind: &Kind, value: Value) -> Result<Value, Status> {
    if kind.webhook_conversion.is_none() {
        return Ok(value);
    }
    let mut values = [value];
    by_webhook(server, kind, &kind.storage_api_version(), &mut values).await?;
    let [value] = values;
    Ok(value)
}

/// Lets the webhook convert what is of another version than the one wanted.
async fn by_webhook(server: &Inner, kind: &Kind, wanted: &str, values: &mut [Value]) -> Result<(), Status> {
    let Some(conversion) = &kind.webhook_conversion else { return Ok(()) };
    let others: Vec<usize> = (0..values.len()).filter(|at| object::api_version(&values[*at]) != wanted).collect();
    let Some(first) = others.first() else { return Ok(()) };
    let of = object::gvk(&values[*first]).map(|gvk| gvk.to_string()).unwrap_or_default();
    let failed = |words: String| Status::internal(format!("conversion webhook for {of} {words}"));
    let objects: Vec<&Value> = others.iter().map(|at| &values[*at]).collect();
    let converted =
        asked(server, conversion, wanted, &objects).await.map_err(|error| failed(format!("failed: {error}")))?;
    if converted.len() != others.len() {
        return Err(failed(format!("returned {} objects, expected {}", converted.len(), others.len())));
    }
    for (index, (at, converted)) in others.into_iter().zip(converted).enumerate() {
        let checked = checked(&values[at], converted, wanted);
        values[at] =
            checked.map_err(|error| failed(format!("returned invalid converted object at index {index}: {error}")))?;
    }
    Ok(())
}

async fn asked(server: &Inner, conversion: &Value, wanted: &str, objects: &[&Value]) -> Result<Vec<Value>, String> {
    let versions = conversion.get("conversionReviewVersions").and_then(Value::as_array).into_iter().flatten();
    let version = versions.filter_map(Value::as_str).find(|version| matches!(*version, "v1" | "v1beta1"));
    let version = version.ok_or("webhook does not accept known ConversionReview versions (v1, v1beta1)")?;
    let client = conversion.get("clientConfig").map(WebhookClientConfig::deserialize).transpose();
    let client = client.map_err(|error| error.to_string())?.as_ref().map(Client::from).unwrap_or_default();
    let uid = uuid::Uuid::new_v4().to_string();
    let api = format!("apiextensions.k8s.io/{version}");
    let question = json!({
        "kind": "ConversionReview", "apiVersion": api,
        "request": { "uid": uid, "desiredAPIVersion": wanted, "objects": objects },
    });
    let answer = call::post(server, &client, &question, TIMEOUT).await?;
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    if version == "v1" && (object::kind(&answer), object::api_version(&answer)) != ("ConversionReview", api.as_str()) {
        let (given, kind) = (object::api_version(&answer), object::kind(&answer));
        return Err(format!("expected webhook response of {api}, Kind=ConversionReview, got {given}, Kind={kind}"));
    }
    let response = answer.get("response").filter(|response| response.is_object()).ok_or("no response provided")?;
    let answered = text(response, "/uid");
    if version == "v1" && answered != uid {
        return Err(format!("expected response.uid={}, got {}", go::quote(&uid), go::quote(&answered)));
    }
    match (text(response, "/result/status").as_str(), text(response, "/result/message")) {
        ("Success", _) => Ok(response["convertedObjects"].as_array().cloned().unwrap_or_default()),
        (status, message) if message.is_empty() => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message),
    }
}

/// A converted object with the metadata it had, but for labels and annotations.
fn checked(original: &Value, mut converted: Value, wanted: &str) -> Result<Value, String> {
    if object::api_version(&converted) != wanted {
        let given = object::api_version(&converted);
        return Err(format!("invalid groupVersion (expected {wanted}, received {given})"));
    }
    let same = [
        ("kind", object::kind(original), object::kind(&converted)),
        ("name", object::name(original), object::name(&converted)),
        ("namespace", object::namespace(original), object::namespace(&converted)),
        ("UID", object::uid(original), object::uid(&converted)),
    ];
    if let Some((what, was, is)) = same.iter().find(|(_, was, is)| was != is) {
        return Err(format!("must have the same {what}: {was} != {is}"));
    }
    let mut metadata = object::metadata(original).cloned().unwrap_or_default();
    let given = object::metadata(&converted).ok_or("missing metadata in converted object")?;
    for field in ["labels", "annotations"] {
        match given.get(field).filter(|value| !value.is_null()) {
            None => drop(metadata.remove(field)),
            Some(Value::Object(entries)) if entries.values().all(Value::is_string) => {
                metadata.insert(field.to_owned(), Value::Object(entries.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    converted["metadata"] = Value::Object(metadata);
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_may_change_labels_and_nothing_else_of_metadata() {
        let original =
            json!({"apiVersion": "x.io/v1", "kind": "A", "metadata": {"name": "a", "uid": "u", "labels": {"l": "1"}}});
        let converted = json!({"apiVersion": "x.io/v2", "kind": "A", "metadata": {"name": "a", "uid": "u", "generation": 7, "annotations": {"n": "2"}}, "n": 1});
        let checked_one = checked(&original, converted.clone(), "x.io/v2").unwrap();
        let metadata = json!({"name": "a", "uid": "u", "annotations": {"n": "2"}});
        assert_eq!((&checked_one["metadata"], &checked_one["n"]), (&metadata, &json!(1)));
        assert!(checked(&original, converted.clone(), "x.io/v3").unwrap_err().starts_with("invalid groupVersion"));
        let mut renamed = converted;
        renamed["metadata"]["name"] = json!("b");
        assert_eq!(checked(&original, renamed, "x.io/v2").unwrap_err(), "must have the same name: a != b");
    }
}
