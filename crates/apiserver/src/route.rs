//! What the router asks of a request before any handler sees it: that its media types are ones the route knows.
//!
//! `emicklei/go-restful jsr311.go: detectRoute`: the method, then the content type, then what the client accepts. It
//! compares media types letter by letter; what is served by another handler (custom resources) is not held to it.

use http::{HeaderMap, HeaderName, header};
use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::status::{Status, reason};

use crate::verbs::patch;

/// What every route of a resource answers in.
const PRODUCED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Refuses a request whose media types no route takes.
pub fn check(kind: &Kind, verb: &str, headers: &HeaderMap) -> Result<(), Status> {
    if matches!(kind.schema, SchemaSource::Custom(_)) {
        return Ok(());
    }
    if verb == "patch" && !media_types(headers, &header::CONTENT_TYPE).any(|given| patch::ACCEPTED.contains(&given)) {
        return Err(Status::unroutable(415, reason::UNSUPPORTED_MEDIA_TYPE, "415: Unsupported Media Type"));
    }
    let asks = media_types(headers, &header::ACCEPT).next().is_some();
    if asks && !media_types(headers, &header::ACCEPT).any(|given| given == "*/*" || PRODUCED.contains(&given)) {
        let words = format!("406: Not Acceptable\n\nAvailable representations: {}", PRODUCED.join(", "));
        return Err(Status::unroutable(406, reason::NOT_ACCEPTABLE, words));
    }
    Ok(())
}

/// The media types a header names, without their parameters.
fn media_types<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|clause| clause.split(';').next().unwrap_or_default().trim())
}
