//! Answers in the form the client asked for: whole objects, tables or metadata, as JSON or YAML.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use machinery::status::Status;
use serde_json::{Value, json};

use crate::context::Cx;
use crate::http::{self as wire, HttpResponse};
use crate::negotiate::{Accept, Endpoint, MEDIA_TYPES, Media, STREAM_MEDIA_TYPES, Shape};
use crate::query::Query;
use crate::table;

/// A tree in the media type asked for.
pub fn encode(media: Media, value: &Value) -> Result<Vec<u8>, Status> {
    match media {
        Media::Json => serde_json::to_vec(value).map_err(Status::internal),
        Media::PrettyJson => serde_json::to_vec_pretty(value).map_err(Status::internal),
        Media::Yaml => serde_yaml_ng::to_string(value).map(String::into_bytes).map_err(Status::internal),
        Media::Protobuf => kinds::protobuf::encode(value).ok_or_else(not_acceptable),
    }
}

/// A failure, or the success of a deletion.
pub fn status(headers: &HeaderMap, query: &Query, status: &Status) -> HttpResponse {
    let accept = Accept::negotiate(headers, query, Endpoint::Plain).unwrap_or(Accept::JSON);
    let code = StatusCode::from_u16(status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let plain = status.to_json();
    let bytes = match accept.media {
        Media::Json => plain,
        media => serde_json::from_slice(&plain).ok().and_then(|value| encode(media, &value).ok()).unwrap_or(plain),
    };
    wire::answer(code, accept.media.content_type(), wire::full(bytes))
}

/// A failure in the form the client can read, and when to come again.
pub fn failure(headers: &HeaderMap, query: &Query, status: &Status) -> HttpResponse {
    let mut response = self::status(headers, query, status);
    if let Some(seconds) = status.retry_after_seconds()
        && let Ok(value) = HeaderValue::from_str(&seconds.to_string())
    {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// One object of the request's kind.
pub fn object(cx: &Cx, code: u16, value: Value) -> Result<HttpResponse, Status> {
    let shaped = match cx.accept.shape {
        Shape::Whole => value,
        Shape::Metadata => partial(&value),
        Shape::Table => {
            let meta =
                json!({ "resourceVersion": value.pointer("/metadata/resourceVersion").cloned().unwrap_or_default() });
            table::table(&cx.kind, &[value], cx.accept.include, true, meta, cx.now)
        }
        Shape::MetadataList => return Err(not_acceptable()),
    };
    tree(cx, code, &shaped)
}

/// A list of the request's kind.
pub fn list(cx: &Cx, meta: &Value, values: &[Value]) -> Result<HttpResponse, Status> {
    let tree = match cx.accept.shape {
        Shape::Table => table::table(&cx.kind, values, cx.accept.include, true, meta.clone(), cx.now),
        Shape::Whole => {
            let (kind, version) = (cx.kind.list_kind(), cx.kind.api_version());
            json!({ "kind": kind, "apiVersion": version, "metadata": meta, "items": values })
        }
        Shape::Metadata | Shape::MetadataList => {
            // Go's encoder writes the nil slice that nothing was added to as null.
            let items = (!values.is_empty()).then(|| values.iter().map(partial).collect::<Vec<Value>>());
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items })
        }
    };
    self::tree(cx, 200, &tree)
}

/// A tree that is sent as it is: another kind's object, a Status.
pub fn tree(cx: &Cx, code: u16, value: &Value) -> Result<HttpResponse, Status> {
    bytes(cx, code, encode(cx.accept.media, value)?)
}

/// Bytes already in the form asked for.
pub fn bytes(cx: &Cx, code: u16, bytes: Vec<u8>) -> Result<HttpResponse, Status> {
    let code = StatusCode::from_u16(code).map_err(Status::internal)?;
    let mut response = wire::answer(code, cx.accept.media.content_type(), wire::full(bytes));
    add_warnings(cx, &mut response);
    Ok(response)
}

/// `kubernetes/apiserver pkg/endpoints/handlers/negotiation: what is accepted when a shape does not fit`.
pub fn not_acceptable() -> Status {
    Status::not_acceptable(&MEDIA_TYPES)
}

/// The same of a watch.
pub fn not_streamable() -> Status {
    Status::not_acceptable(&STREAM_MEDIA_TYPES)
}

/// `Warning: 299 - "text"`, one header each.
pub fn add_warnings(cx: &Cx, response: &mut HttpResponse) {
    for text in cx.warnings() {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let clean: String = quoted.chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            response.headers_mut().append("warning", value);
        }
    }
}

/// An object's metadata alone.
pub fn partial(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

#[cfg(test)]
mod tests;
