//! OpenAPI documents, made when they are first asked for.

use http::{HeaderMap, StatusCode};
use machinery::status::Status;
use serde_json::json;

use crate::http::{self as wire, HttpResponse};
use crate::query::Query;
use crate::server::Inner;

/// The documents made so far.
#[derive(Default)]
pub struct Documents {}

/// `/openapi/v2`
pub fn v2(_server: &Inner, _headers: &HeaderMap) -> Result<HttpResponse, Status> {
    Ok(crate::dispatch::not_a_path())
}

/// `/openapi/v3`
pub fn index(_server: &Inner) -> Result<HttpResponse, Status> {
    Ok(wire::json(StatusCode::OK, &json!({ "paths": {} })))
}

/// `/openapi/v3/apis/apps/v1`
pub fn v3(_server: &Inner, _path: &str, _headers: &HeaderMap, _query: &Query) -> Result<HttpResponse, Status> {
    Ok(crate::dispatch::not_a_path())
}
