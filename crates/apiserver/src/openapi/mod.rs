//! OpenAPI documents (v3 per group version, v2 in one), made when they are first asked for and then kept as bytes.
//!
//! Types come from the type facts, descriptions from `k8s-openapi`, custom kinds from their definitions.
//! `kubernetes/kube-openapi pkg/handler3: the index, the hash in a document's URL, and its caching headers`.

mod custom;
pub mod descriptions;
mod gnostic;
mod paths;
mod schemas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::status::Status;
use serde_json::{Map, Value, json};
use sha2::Digest;

use crate::http::{self as wire, HttpResponse};
use crate::query::Query;
use crate::respond;
use crate::server::Inner;

/// Which format a document is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    V2,
    V3,
}

/// The documents made so far, by path, each with the hash it was made for.
#[derive(Default)]
pub struct Documents(Mutex<BTreeMap<String, (String, Bytes)>>);

impl Documents {
    fn get(&self, path: &str, hash: &str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some((made_for, bytes)) = known
            && made_for == hash
        {
            return bytes;
        }
        let bytes = Bytes::from(make());
        let mut documents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        documents.insert(path.to_owned(), (hash.to_owned(), bytes.clone()));
        bytes
    }
}

/// The path of a kind's document: `api/v1`, `apis/apps/v1`.
fn path_of(kind: &Kind) -> String {
    if kind.group.is_empty() {
        format!("api/{}", kind.version)
    } else {
        format!("apis/{}/{}", kind.group, kind.version)
    }
}

/// The custom definition behind a kind, if it has one.
fn definition_of(server: &Inner, kind: &Kind) -> Option<Arc<crate::cache::Object>> {
    let catalog = server.catalog.load();
    let definitions = catalog.find("apiextensions.k8s.io", "v1", "customresourcedefinitions")?;
    server.caches.of(definitions)?.get(&format!("{}.{}", kind.names.plural, kind.group))
}

/// What a document is made from: the program for built-in kinds, the definitions' revisions for custom ones.
fn hash(server: &Inner, path: &str, kinds: &[Arc<Kind>]) -> String {
    let mut digest = sha2::Sha512::new();
    digest.update(concat!(env!("CARGO_PKG_VERSION"), ":"));
    digest.update(path);
    for kind in kinds.iter().filter(|kind| matches!(kind.schema, SchemaSource::Custom(_))) {
        if let Some(definition) = definition_of(server, kind) {
            digest.update(definition.value().get("spec").map(Value::to_string).unwrap_or_default());
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn by_path(server: &Inner) -> BTreeMap<String, Vec<Arc<Kind>>> {
    let mut by_path: BTreeMap<String, Vec<Arc<Kind>>> = BTreeMap::new();
    for kind in server.catalog.load().all() {
        by_path.entry(path_of(kind)).or_default().push(Arc::clone(kind));
    }
    by_path
}

/// `/openapi/v3`
pub fn index(server: &Inner) -> Result<HttpResponse, Status> {
    let mut paths = Map::new();
    for (path, kinds) in by_path(server) {
        let url = format!("/openapi/v3/{path}?hash={}", hash(server, &path, &kinds));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    crate::aggregate::index(server, &mut paths);
    Ok(wire::json(StatusCode::OK, &json!({ "paths": paths })))
}

/// `/openapi/v3/apis/apps/v1`
pub async fn v3(server: &Inner, path: &str, headers: &HeaderMap, query: &Query) -> Result<HttpResponse, Status> {
    if let Some(document) = crate::aggregate::openapi(server, path).await {
        return Ok(wire::json(StatusCode::OK, &document?));
    }
    let Some(kinds) = by_path(server).remove(path) else { return Ok(crate::dispatch::not_a_path()) };
    json_only(headers)?;
    let hash = hash(server, path, &kinds);
    if let Some(asked) = query.get("hash")
        && asked != hash
    {
        let mut response = wire::text(StatusCode::MOVED_PERMANENTLY, "");
        let to = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")).map_err(Status::internal)?;
        response.headers_mut().insert(header::LOCATION, to);
        return Ok(response);
    }
    let etag = HeaderValue::from_str(&format!("\"{hash}\"")).map_err(Status::internal)?;
    if headers.get(header::IF_NONE_MATCH) == Some(&etag) {
        return Ok(wire::answer(StatusCode::NOT_MODIFIED, "application/json", wire::empty()));
    }
    let bytes = server.openapi.get(path, &hash, || document_v3(server, &kinds).to_string().into_bytes());
    let mut response = wire::answer(StatusCode::OK, "application/json", wire::full(bytes));
    response.headers_mut().insert(header::ETAG, etag);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    if query.get("hash").is_some() {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

fn media_of(clause: &str) -> &str {
    clause.split(';').next().unwrap_or_default().trim()
}

/// Documents are written as JSON alone.
fn json_only(headers: &HeaderMap) -> Result<(), Status> {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepted.peek().is_none() {
        return Ok(());
    }
    let json = accepted
        .flat_map(|value| value.split(','))
        .any(|clause| matches!(media_of(clause), "application/json" | "*/*" | "application/*"));
    if json { Ok(()) } else { Err(respond::not_acceptable()) }
}

fn info() -> Value {
    json!({ "title": "Kubernetes", "version": "v1.37.2" })
}

fn document_v3(server: &Inner, kinds: &[Arc<Kind>]) -> Value {
    let mut wanted = BTreeSet::new();
    let mut paths = Map::new();
    for kind in kinds {
        paths::add(kind, &mut paths, &mut wanted);
    }
    let schemas = all_schemas(server, kinds, wanted, Form::V3);
    json!({ "openapi": "3.0.0", "info": info(), "paths": paths, "components": { "schemas": schemas } })
}

/// The schemas of the kinds and of everything they and the operations refer to.
fn all_schemas(server: &Inner, kinds: &[Arc<Kind>], mut wanted: BTreeSet<String>, form: Form) -> Map<String, Value> {
    let mut custom = Map::new();
    for kind in kinds {
        match &kind.schema {
            SchemaSource::Facts(name) => {
                wanted.insert((*name).to_owned());
                wanted.insert(format!("{name}List"));
            }
            SchemaSource::Custom(_) => {
                let definition = definition_of(server, kind).map(|definition| definition.value());
                custom::add(kind, definition.as_ref(), form, &mut custom);
                wanted.insert(schemas::OBJECT_META.to_owned());
                wanted.insert(schemas::LIST_META.to_owned());
            }
        }
    }
    let mut schemas = schemas::closure(wanted);
    descriptions::add(kinds, &mut schemas);
    schemas.append(&mut custom);
    schemas
}

/// `/openapi/v2`: the same in the older format.
pub fn v2(server: &Inner, headers: &HeaderMap) -> Result<HttpResponse, Status> {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let packed = accepted.any(|value| value.split(',').any(|clause| gnostic::is_media(media_of(clause))));
    if !packed {
        json_only(headers)?;
    }
    let kinds = server.catalog.load().all().to_vec();
    let hash = hash(server, "v2", &kinds);
    let (path, media) = if packed { ("v2.pb", gnostic::MEDIA) } else { ("v2", "application/json") };
    let bytes = server.openapi.get(path, &hash, || {
        let mut wanted = BTreeSet::new();
        let mut paths = Map::new();
        for kind in &kinds {
            paths::add(kind, &mut paths, &mut wanted);
        }
        let definitions = all_schemas(server, &kinds, wanted, Form::V2);
        let mut document = json!({
            "swagger": "2.0", "info": info(), "paths": paths, "definitions": definitions,
        });
        schemas::to_v2(&mut document);
        if packed { gnostic::encode(&document) } else { document.to_string().into_bytes() }
    });
    Ok(wire::answer(StatusCode::OK, media, wire::full(bytes)))
}
