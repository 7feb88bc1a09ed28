//! `metav1.Status`, the error (and sometimes success) answer of the API, as an error type.
//!
//! `k8s.io/apimachinery pkg/api/errors`: reasons, codes, messages and details of each constructor.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::FieldErrors;
use crate::go;
use crate::gvk::{GroupKind, GroupResource};

/// The `reason` of a [`Status`].
pub mod reason {
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const FORBIDDEN: &str = "Forbidden";
    pub const NOT_FOUND: &str = "NotFound";
    pub const ALREADY_EXISTS: &str = "AlreadyExists";
    pub const CONFLICT: &str = "Conflict";
    pub const GONE: &str = "Gone";
    pub const INVALID: &str = "Invalid";
    pub const SERVER_TIMEOUT: &str = "ServerTimeout";
    pub const STORE_READ_ERROR: &str = "StorageReadError";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_REQUESTS: &str = "TooManyRequests";
    pub const BAD_REQUEST: &str = "BadRequest";
    pub const METHOD_NOT_ALLOWED: &str = "MethodNotAllowed";
    pub const NOT_ACCEPTABLE: &str = "NotAcceptable";
    pub const REQUEST_ENTITY_TOO_LARGE: &str = "RequestEntityTooLarge";
    pub const UNSUPPORTED_MEDIA_TYPE: &str = "UnsupportedMediaType";
    pub const INTERNAL_ERROR: &str = "InternalError";
    pub const EXPIRED: &str = "Expired";
    pub const SERVICE_UNAVAILABLE: &str = "ServiceUnavailable";
}

/// The answer itself. `Display` is its message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    pub reason: Cow<'static, str>,
    pub message: String,
    pub details: Option<Box<Details>>,
}

/// What a [`Status`] is about. Empty fields are not written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// A resource in most errors, a kind in `Invalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

fn is_zero(seconds: &i32) -> bool {
    *seconds == 0
}

/// One of the causes of an error.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    #[serde(rename = "reason", skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Status {
    /// Any failure; the constructors below are the ones upstream has names for.
    pub fn failure(code: u16, reason: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None }
    }

    /// The answer to a delete that leaves nothing to show.
    pub fn success(details: Option<Details>) -> Self {
        Self { code: 200, reason: Cow::Borrowed(""), message: String::new(), details: details.map(Box::new) }
    }

    #[must_use]
    pub fn with_details(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    fn about(self, resource: &GroupResource, name: &str) -> Self {
        self.with_details(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.resource.to_string(),
            ..Details::default()
        })
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(404, reason::NOT_FOUND, format!("{resource} {} not found", go::quote(name))).about(resource, name)
    }

    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        let message = format!("{resource} {} already exists", go::quote(name));
        Self::failure(409, reason::ALREADY_EXISTS, message).about(resource, name)
    }

    /// No free name was found for a `generateName`.
    pub fn generate_name_conflict(resource: &GroupResource, name: &str, retry_after_seconds: i32) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            go::quote(name)
        );
        Self::failure(409, reason::ALREADY_EXISTS, message).about(resource, name).retry_after(retry_after_seconds)
    }

    /// `error` is upstream's own text, as `the object has been modified; please apply your changes to the latest
    /// version and try again`.
    pub fn conflict(resource: &GroupResource, name: &str, error: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {error}", go::quote(name));
        Self::failure(409, reason::CONFLICT, message).about(resource, name)
    }

    /// The conflict every stale `resourceVersion` meets.
    pub fn modified(resource: &GroupResource, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// A server-side apply that touches fields of other managers.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        Self::failure(409, reason::CONFLICT, message).with_details(Details { causes, ..Details::default() })
    }

    /// All field errors of an object in one 422.
    pub fn invalid(kind: &GroupKind, name: &str, errors: &FieldErrors) -> Self {
        let subject = format!("{kind} {} is invalid", go::quote(name));
        let message = if errors.is_empty() { subject } else { format!("{subject}: {errors}") };
        let causes = errors
            .iter()
            .map(|error| Cause {
                reason: error.kind.cause_type().to_owned(),
                message: error.body(),
                field: error.field.clone(),
            })
            .collect();
        Self::failure(422, reason::INVALID, message).with_details(Details {
            name: name.to_owned(),
            group: kind.group.to_string(),
            kind: kind.kind.to_string(),
            causes,
            ..Details::default()
        })
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, reason::BAD_REQUEST, message)
    }

    /// What the router says of a request no route fits: nobody knows what it was about.
    pub fn unroutable(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self::failure(code, reason, message).with_details(Details::default())
    }

    /// An error that has no reason of its own.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::failure(500, "", message)
    }

    pub fn unauthorized(message: &str) -> Self {
        Self::failure(401, reason::UNAUTHORIZED, if message.is_empty() { "not authorized" } else { message })
    }

    pub fn forbidden(resource: &GroupResource, name: &str, error: impl fmt::Display) -> Self {
        let message = if resource.is_empty() {
            format!("forbidden: {error}")
        } else if name.is_empty() {
            format!("{resource} is forbidden: {error}")
        } else {
            format!("{resource} {} is forbidden: {error}", go::quote(name))
        };
        Self::failure(403, reason::FORBIDDEN, message).about(resource, name)
    }

    /// A `resourceVersion` or continue token too old to be served.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, reason::EXPIRED, message)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, reason::GONE, message)
    }

    pub fn too_large(message: impl fmt::Display) -> Self {
        Self::failure(413, reason::REQUEST_ENTITY_TOO_LARGE, format!("Request entity too large: {message}"))
    }

    pub fn timeout(message: impl fmt::Display, retry_after_seconds: i32) -> Self {
        Self::failure(504, reason::TIMEOUT, format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    pub fn server_timeout(resource: &GroupResource, operation: &str, retry_after_seconds: i32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        Self::failure(500, reason::SERVER_TIMEOUT, message).about(resource, operation).retry_after(retry_after_seconds)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Self {
        Self::failure(429, reason::TOO_MANY_REQUESTS, message).retry_after(retry_after_seconds)
    }

    pub fn method_not_supported(resource: &GroupResource, action: &str) -> Self {
        let quoted = go::quote(&resource.to_string());
        let message = format!("{action} is not supported on resources of kind {quoted}");
        Self::failure(405, reason::METHOD_NOT_ALLOWED, message).about(resource, "")
    }

    /// `accepted` are the media types the server can answer with.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, reason::NOT_ACCEPTABLE, message)
    }

    /// `accepted` are the media types a body may have.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, reason::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, reason::SERVICE_UNAVAILABLE, message)
    }

    pub fn internal(error: impl fmt::Display) -> Self {
        let text = error.to_string();
        Self::failure(500, reason::INTERNAL_ERROR, format!("Internal error occurred: {text}"))
            .with_details(Details { causes: vec![Cause { message: text, ..Cause::default() }], ..Details::default() })
    }

    /// A method that a resource's path does not take.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::failure(405, reason::METHOD_NOT_ALLOWED, message).with_details(Details::default())
    }

    /// The answer to a path nothing is served at.
    pub fn unknown_path() -> Self {
        Self::failure(404, reason::NOT_FOUND, "the server could not find the requested resource")
            .with_details(Details::default())
    }

    pub fn code(&self) -> u16 {
        self.code
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == reason::NOT_FOUND
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == reason::CONFLICT
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == reason::ALREADY_EXISTS
    }

    pub fn retry_after_seconds(&self) -> Option<i32> {
        self.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
    }

    /// The object as upstream writes it, in its order of fields.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            kind: "Status",
            api_version: "v1",
            metadata: Empty {},
            status: if self.is_success() { "Success" } else { "Failure" },
            message: &self.message,
            reason: &self.reason,
            details: self.details.as_deref(),
            // Upstream writes a success without a code when it stands for a deletion.
            code: if self.is_success() { 0 } else { self.code },
        };
        // Strings and numbers alone: nothing in it can fail to serialise.
        #[allow(clippy::expect_used, reason = "strings, numbers and lists of them always serialise")]
        serde_json::to_vec(&wire).expect("a Status serialises")
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Reads a Status object, as from an admission webhook or another API server.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        if value.get("kind")?.as_str()? != "Status" {
            return None;
        }
        let text = |name: &str| value.get(name).and_then(|v| v.as_str()).unwrap_or("").to_owned();
        let success = text("status") == "Success";
        let code = value.get("code").and_then(serde_json::Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let details = value.get("details").and_then(|details| Details::deserialize(details).ok());
        Some(Self {
            code: code.unwrap_or(if success { 200 } else { 500 }),
            reason: Cow::Owned(text("reason")),
            message: text("message"),
            details: details.map(Box::new),
        })
    }
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Details>,
    #[serde(skip_serializing_if = "is_no_code")]
    code: u16,
}

fn is_no_code(code: &u16) -> bool {
    *code == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{FieldError, Path};

    fn text(status: &Status) -> String {
        String::from_utf8(status.to_json()).unwrap()
    }

    #[test]
    fn not_found_as_upstream() {
        let status = Status::not_found(&GroupResource::new("apps", "deployments"), "web");
        insta::assert_snapshot!(text(&status), @r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#);
    }

    #[test]
    fn invalid_lists_every_cause() {
        let mut errors = FieldErrors::new();
        errors.push(FieldError::required(&Path::new("spec"), ""));
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), "A", "bad"));
        let status = Status::invalid(&GroupKind::new("", "Pod"), "a", &errors);
        insta::assert_snapshot!(text(&status), @r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Pod \"a\" is invalid: [spec: Required value, metadata.name: Invalid value: \"A\": bad]","reason":"Invalid","details":{"name":"a","kind":"Pod","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec"},{"reason":"FieldValueInvalid","message":"Invalid value: \"A\": bad","field":"metadata.name"}]},"code":422}"#);
    }

    #[test]
    fn reads_what_it_writes() {
        let status = Status::too_many_requests("slow down", 1);
        let value: serde_json::Value = serde_json::from_slice(&status.to_json()).unwrap();
        assert_eq!(Status::from_json(&value).unwrap(), status);
        assert_eq!(status.retry_after_seconds(), Some(1));
    }
}
