//! OpenAPI documents (v3 per group version, v2 in one), made when they are first asked for and then kept as bytes.
//!
//! Types come from the type facts, descriptions from `k8s-openapi`, custom kinds from their definitions.
//! `kubernetes/kube-openapi pkg/handler3: the index, the hash in a document's URL, and its caching headers`.

mod custom;
pub mod descriptions;
mod document;
mod fixed;
mod gnostic;
mod operations;
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

use self::descriptions::Described;
use self::document::{Head, Sink, Text};
use self::operations::Referred;
use self::schemas::Kinds;
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

/// What a document tells of.
#[derive(Default)]
struct Contents {
    /// The operations that are about no resource, by their documents' paths.
    fixed: BTreeSet<String>,
    kinds: Vec<Arc<Kind>>,
    /// The group version that it is the document of.
    within: Option<(String, String)>,
}

impl Contents {
    fn of(server: &Inner) -> BTreeMap<String, Contents> {
        let mut documents: BTreeMap<String, Contents> = BTreeMap::new();
        let mut add = |path: &str, kind: Option<&Arc<Kind>>| {
            let contents = documents.entry(path.to_owned()).or_default();
            if kind.is_none_or(|kind| is_built_in(kind)) {
                contents.fixed.insert(path.to_owned());
                contents.within = kind.map(|kind| (kind.group.to_string(), kind.version.to_string()));
            }
            contents.kinds.extend(kind.cloned());
        };
        for path in fixed::ALONE {
            add(path, None);
        }
        for kind in server.catalog.load().all() {
            if is_built_in(kind) && !kind.group.is_empty() {
                add(&format!("apis/{}", kind.group), None);
            }
            add(&path_of(kind), Some(kind));
        }
        documents
    }

    /// All of them in one.
    fn whole(server: &Inner) -> Contents {
        let documents = Contents::of(server).into_values();
        documents.fold(Contents::default(), |mut whole, one| {
            whole.fixed.extend(one.fixed);
            whole.kinds.extend(one.kinds);
            whole
        })
    }

    /// Custom kinds alone are told by another part of upstream's server.
    fn head(&self) -> &'static Head {
        if self.fixed.is_empty() { &Head::CUSTOM } else { &Head::SERVER }
    }

    fn shared_kinds(&self, form: Form) -> Kinds<'_> {
        match (form, &self.within) {
            (Form::V2, _) => Kinds::All,
            (Form::V3, Some((group, version))) => Kinds::Within(group, version),
            (Form::V3, None) => Kinds::Clients,
        }
    }

    fn write(&self, server: &Inner, form: Form, sink: &mut impl Sink) {
        let mut referred = Referred::default();
        let fixed = self.fixed.iter().filter_map(|path| fixed::of(path));
        for item in fixed.chain(self.kinds.iter().flat_map(|kind| paths::of(kind))) {
            sink.path(&item.path, &item.write(form, &mut referred));
        }
        for kind in self.kinds.iter().filter(|kind| !is_built_in(kind)) {
            let definition = definition_of(server, kind).map(|definition| definition.value());
            for (name, schema) in custom::schemas(kind, definition.as_ref(), form) {
                sink.schema(&name, &schema);
            }
            referred.definitions.extend([schemas::OBJECT_META, schemas::LIST_META].map(str::to_owned));
        }
        let described = Described::of(self.kinds.iter().any(|kind| is_built_in(kind)));
        for facts in schemas::closure(&referred.definitions) {
            let mut schema = schemas::of(facts, form, self.shared_kinds(form));
            described.add(facts.name, &mut schema, form);
            sink.schema(facts.name, &schema);
        }
        for (name, parameter) in &referred.parameters {
            sink.parameter(name, parameter);
        }
    }
}

fn is_built_in(kind: &Kind) -> bool {
    matches!(kind.schema, SchemaSource::Facts(_))
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

/// `/openapi/v3`
pub fn index(server: &Inner) -> Result<HttpResponse, Status> {
    let mut paths = Map::new();
    for (path, contents) in Contents::of(server) {
        let url = format!("/openapi/v3/{path}?hash={}", hash(server, &path, &contents.kinds));
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
    crate::aggregate::index(server, &mut paths);
    // Upstream does not say what it is, and so Go's server takes it for text.
    Ok(wire::text(StatusCode::OK, json!({ "paths": paths }).to_string()))
}

/// `/openapi/v3/apis/apps/v1`
pub async fn v3(server: &Inner, path: &str, headers: &HeaderMap, query: &Query) -> Result<HttpResponse, Status> {
    if let Some(document) = crate::aggregate::openapi(server, path).await {
        return Ok(wire::json(StatusCode::OK, &document?));
    }
    let Some(contents) = Contents::of(server).remove(path) else { return Ok(wire::bare(StatusCode::NOT_FOUND)) };
    json_only(headers)?;
    let hash = hash(server, path, &contents.kinds);
    if let Some(asked) = query.get("hash")
        && asked != hash
    {
        let mut response = wire::text(StatusCode::MOVED_PERMANENTLY, "");
        let to = HeaderValue::from_str(&format!("/openapi/v3/{path}?hash={hash}")).map_err(Status::internal)?;
        response.headers_mut().insert(header::LOCATION, to);
        return Ok(response);
    }
    let mut response = known_or(headers, &hash, "application/json", || {
        server.openapi.get(path, &hash, || {
            let mut text = Text::default();
            contents.write(server, Form::V3, &mut text);
            text.finish(Form::V3, contents.head())
        })
    })?;
    if query.get("hash").is_some() && response.status() == StatusCode::OK {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Ok(response)
}

/// A document, unless the client says that it has it.
fn known_or(
    headers: &HeaderMap,
    hash: &str,
    media: &'static str,
    document: impl FnOnce() -> Bytes,
) -> Result<HttpResponse, Status> {
    let etag = HeaderValue::from_str(&format!("\"{hash}\"")).map_err(Status::internal)?;
    if headers.get(header::IF_NONE_MATCH) == Some(&etag) {
        return Ok(wire::answer(StatusCode::NOT_MODIFIED, media, wire::empty()));
    }
    let mut response = wire::answer(StatusCode::OK, media, wire::full(document()));
    response.headers_mut().insert(header::ETAG, etag);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
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

/// `/openapi/v2`: the same in the older format.
pub fn v2(server: &Inner, headers: &HeaderMap) -> Result<HttpResponse, Status> {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let packed = accepted.any(|value| value.split(',').any(|clause| gnostic::is_media(media_of(clause))));
    if !packed {
        json_only(headers)?;
    }
    let contents = Contents::whole(server);
    let (path, media) = if packed { ("v2.pb", gnostic::MEDIA) } else { ("v2", "application/json") };
    let hash = hash(server, path, &contents.kinds);
    known_or(headers, &hash, media, || {
        server.openapi.get(path, &hash, || {
            if packed {
                let mut document = gnostic::Document::default();
                contents.write(server, Form::V2, &mut document);
                document.finish(contents.head())
            } else {
                let mut text = Text::default();
                contents.write(server, Form::V2, &mut text);
                text.finish(Form::V2, contents.head())
            }
        })
    })
}
