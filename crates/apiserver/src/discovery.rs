//! What is served, as clients ask for it: group by group, or all at once (aggregated discovery).
//!
//! `kubernetes/apiserver pkg/endpoints/discovery` gives the documents; all of them are derived from the catalog.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use kinds::discovery;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::aggregate;
use crate::http::{self as wire, HttpResponse};
use crate::negotiate::{Accept, Endpoint, Media};
use crate::query::Query;
use crate::respond;
use crate::server::Inner;

/// `/api`
pub fn legacy(server: &Inner, headers: &HeaderMap, query: &Query) -> Result<HttpResponse, Status> {
    let catalog = server.catalog.load();
    if wants_aggregated(headers) {
        return aggregated(&discovery::aggregated_core(&catalog.kinds()));
    }
    let endpoint = format!("{}:{}", server.config.advertise_address, server.config.port);
    plain(headers, query, Some(discovery::api_versions(&endpoint)))
}

/// `/apis`
pub fn groups(server: &Inner, headers: &HeaderMap, query: &Query) -> Result<HttpResponse, Status> {
    let catalog = server.catalog.load();
    if wants_aggregated(headers) {
        return aggregated(&aggregate::aggregated(server, discovery::aggregated(&catalog.kinds())));
    }
    plain(headers, query, Some(aggregate::groups(server, discovery::group_list(&catalog.kinds()))))
}

/// `/apis/apps`
pub fn group(server: &Inner, headers: &HeaderMap, query: &Query, name: &str) -> Result<HttpResponse, Status> {
    plain(headers, query, aggregate::group(server, name, discovery::group(&server.catalog.load().kinds(), name)))
}

/// `/api/v1` and `/apis/apps/v1`
pub fn resources(
    server: &Inner,
    headers: &HeaderMap,
    query: &Query,
    group: &str,
    version: &str,
) -> Result<HttpResponse, Status> {
    plain(headers, query, discovery::resource_list(&server.catalog.load().kinds(), group, version))
}

/// `/api/v1`, where an unknown version is answered by the API's own router.
pub fn core_resources(
    server: &Inner,
    headers: &HeaderMap,
    query: &Query,
    version: &str,
) -> Result<HttpResponse, Status> {
    if !server.catalog.load().all().iter().any(|kind| kind.group.is_empty() && kind.version == version) {
        return Err(Status::unknown_path());
    }
    resources(server, headers, query, "", version)
}

/// `/`: the paths there are.
pub fn paths(server: &Inner) -> Value {
    let known = [
        "/.well-known/openid-configuration",
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/openid/v1/jwks",
        "/version",
    ];
    let mut paths: Vec<String> = known.iter().map(|path| (*path).to_owned()).collect();
    paths.extend(crate::health::paths());
    for kind in server.catalog.load().all().iter().filter(|kind| !kind.group.is_empty()) {
        paths.push(format!("/apis/{}", kind.group));
        paths.push(format!("/apis/{}", kind.api_version()));
    }
    paths.sort();
    paths.dedup();
    json!({ "paths": paths })
}

fn plain(headers: &HeaderMap, query: &Query, value: Option<Value>) -> Result<HttpResponse, Status> {
    let Some(value) = value else { return Ok(crate::dispatch::not_a_path()) };
    let media = Accept::negotiate(headers, query, Endpoint::Plain).map_or(Media::Json, |accept| accept.media);
    Ok(wire::answer(StatusCode::OK, media.content_type(), wire::full(respond::encode(media, &value)?)))
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether the client would rather have everything in one document.
fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|clause| {
        let parts: Vec<&str> = clause.split(';').map(str::trim).collect();
        ["application/json", "g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"]
            .iter()
            .all(|part| parts.contains(part))
    })
}

fn aggregated(value: &Value) -> Result<HttpResponse, Status> {
    let mut response = wire::answer(StatusCode::OK, AGGREGATED, wire::full(respond::encode(Media::Json, value)?));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}
