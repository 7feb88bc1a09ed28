//! `AdmissionReview`: what a webhook is asked, and what its answer means.
//!
//! `kubernetes/apiserver pkg/admission/plugin/webhook/request/admissionreview.go`: which answers are valid.

use std::borrow::Cow;

use base64::Engine as _;
use machinery::go;
use machinery::status::{Details, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use super::conditions::request;
use super::{Matched, Subject};

/// The versions of the review that are spoken.
pub const VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// A webhook's word, once it is known to be valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The operations of a JSON patch.
    pub patch: Option<Value>,
    pub warnings: Vec<String>,
    /// Set: the request is denied.
    pub refusal: Option<Status>,
}

/// The review of a request, for a webhook that speaks `version`.
pub fn review(
    version: &str,
    uid: &str,
    subject: &Subject<'_>,
    matched: &Matched,
    new: Option<&Value>,
    old: Option<&Value>,
) -> Value {
    let mut request = request(subject, matched);
    request["uid"] = json!(uid);
    request["object"] = json!(new);
    request["oldObject"] = json!(old);
    json!({ "kind": "AdmissionReview", "apiVersion": format!("admission.k8s.io/{version}"), "request": request })
}

/// Reads a webhook's answer; the error says what is wrong with it.
pub fn verify(webhook: &str, version: &str, uid: &str, mutating: bool, review: &Value) -> Result<Answer, String> {
    let response = review.get("response").filter(|response| response.is_object());
    let response = response.ok_or("webhook response was absent")?;
    let text = |value: &Value, field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let kind = response.get("patchType").and_then(Value::as_str);
    let patch = text(response, "patch");
    if version == "v1" {
        let answered = text(response, "uid");
        if answered != uid {
            return Err(format!("expected response.uid={}, got {}", go::quote(uid), go::quote(&answered)));
        }
        let (api, name) = (text(review, "apiVersion"), text(review, "kind"));
        if api != "admission.k8s.io/v1" || name != "AdmissionReview" {
            let api = if api.contains('/') { api } else { format!("/{api}") };
            return Err(format!(
                "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api}, Kind={name}"
            ));
        }
        check_patch(mutating, patch.is_empty(), kind)?;
    }
    let patch = if mutating && !patch.is_empty() { Some(operations(&patch)?) } else { None };
    let warnings = response.get("warnings").and_then(Value::as_array).into_iter().flatten();
    let allowed = response.get("allowed").and_then(Value::as_bool).unwrap_or(false);
    Ok(Answer {
        patch,
        warnings: warnings.filter_map(Value::as_str).map(str::to_owned).collect(),
        refusal: (!allowed).then(|| refusal(webhook, response.get("status").unwrap_or(&Value::Null))),
    })
}

fn check_patch(mutating: bool, empty: bool, kind: Option<&str>) -> Result<(), String> {
    let words = match (mutating, empty, kind) {
        (true, false, None) => "webhook returned response.patch but not response.patchType",
        (true, true, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, false, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, false, _) => "validating webhook may not return response.patch",
        (false, true, Some(_)) => "validating webhook may not return response.patchType",
        (true, false, Some("JSONPatch")) | (_, true, None) => return Ok(()),
        (true, false, Some(other)) => return Err(format!("unsupported patch type {}", go::quote(other))),
    };
    Err(words.to_owned())
}

fn operations(patch: &str) -> Result<Value, String> {
    let undecodable =
        |error: &dyn std::fmt::Display| format!("received undecodable patch in webhook response: {error}");
    let bytes = base64::engine::general_purpose::STANDARD.decode(patch).map_err(|error| undecodable(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| undecodable(&error))
}

/// `kubernetes/apiserver pkg/admission/plugin/webhook/errors/statuserror.go: ToStatusErr`.
fn refusal(webhook: &str, result: &Value) -> Status {
    let text = |field: &str| result.get(field).and_then(Value::as_str).unwrap_or_default();
    let by = format!("admission webhook {} denied the request", go::quote(webhook));
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = result.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    let details = result.get("details").and_then(|details| Details::deserialize(details).ok());
    Status {
        code: code.max(400),
        reason: Cow::Owned(text("reason").to_owned()),
        message,
        details: details.map(Box::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mutating: bool, response: Value) -> Result<Answer, String> {
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        verify("w.x.io", "v1", "u", mutating, &review)
    }

    #[test]
    fn answers_are_read_as_upstream_reads_them() {
        let message =
            |answer: Result<Answer, String>| answer.unwrap().refusal.map(|status| (status.code, status.message));
        assert_eq!(message(read(false, json!({"uid": "u", "allowed": true}))), None);
        let denied = |status: Value| message(read(false, json!({"uid": "u", "allowed": false, "status": status})));
        let by = "admission webhook \"w.x.io\" denied the request";
        assert_eq!(denied(Value::Null), Some((400, format!("{by} without explanation"))));
        assert_eq!(denied(json!({"message": "no", "code": 403})), Some((403, format!("{by}: no"))));
        assert_eq!(denied(json!({"reason": "Never", "code": 200})), Some((400, format!("{by}: Never"))));
        assert_eq!(read(false, json!({"uid": "v"})).unwrap_err(), "expected response.uid=\"u\", got \"v\"");
        assert_eq!(read(false, Value::Null).unwrap_err(), "webhook response was absent");
        let patch = base64::engine::general_purpose::STANDARD.encode("[]");
        let patched = json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"});
        assert_eq!(read(true, patched.clone()).unwrap().patch, Some(json!([])));
        assert_eq!(read(false, patched).unwrap_err(), "validating webhook may not return response.patch");
        let untyped = json!({"uid": "u", "allowed": true, "patch": patch});
        assert_eq!(read(true, untyped).unwrap_err(), "webhook returned response.patch but not response.patchType");
    }
}
