//! LIST: from the cache, bytes through, or page by page from the store at one revision.
//!
//! `kubernetes/apiserver pkg/storage: which resourceVersion and match rule reads from where`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use machinery::status::Status;
use mvcc::RangeRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cache::{Cache, Object};
use crate::context::Cx;
use crate::http::HttpResponse;
use crate::negotiate::Shape;
use crate::query::{ListOptions, VersionMatch};
use crate::select::Filter;
use crate::{http as wire, registry, respond, table};

/// The token upstream writes: version, revision, and the first key of the next page.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// A page of a list.
struct Page {
    objects: Vec<Arc<Object>>,
    revision: i64,
    next: Option<String>,
    remaining: Option<usize>,
}

pub async fn list(cx: &Cx) -> Result<HttpResponse, Status> {
    let options = ListOptions::parse(&cx.query, false)?;
    let filter = Filter::new(&cx.kind, &options)?;
    let page = match read(cx, &options, &filter).await? {
        Ok(page) => page,
        Err(expired) => return Ok(expired),
    };
    write(cx, &page)
}

/// The revision a client named.
pub fn parse_revision(text: &str) -> Result<i64, Status> {
    text.parse::<i64>().ok().filter(|revision| *revision >= 0).ok_or_else(|| {
        Status::bad_request(format!(
            "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
        ))
    })
}

/// The inner result's error is a whole answer: 410 with a token that goes on inconsistently.
async fn read(cx: &Cx, options: &ListOptions, filter: &Filter) -> Result<Result<Page, HttpResponse>, Status> {
    let cache = cx.cache()?;
    if let Some(token) = &options.continue_token {
        let token = decode_token(token)?;
        return continued(cx, &cache, options, filter, &token).await;
    }
    let named = options.resource_version.as_deref().map(parse_revision).transpose()?;
    match (named, options.version_match) {
        (Some(revision), VersionMatch::Exact) => {
            cx.server.caches.wait_for(revision).await?;
            return at_revision(cx, &cache, options, filter, "", revision).await;
        }
        (None, _) => cx.server.caches.wait_for(cx.server.registry.revision().await?).await?,
        (Some(revision), _) => cx.server.caches.wait_for(revision).await?,
    }
    // Everything up to what was observed before is in the cache afterwards, and maybe more.
    let observed = cx.server.caches.observed();
    let (mut objects, applied) = cache.list(&cx.info.namespace);
    objects.retain(|object| filter.matches(&cx.kind, object));
    Ok(Ok(cut(objects, options.limit, observed.max(applied), filter)))
}

/// The first page of what matches, and the token for the rest.
fn cut(mut objects: Vec<Arc<Object>>, limit: usize, revision: i64, filter: &Filter) -> Page {
    let total = objects.len();
    if limit == 0 || total <= limit {
        return Page { objects, revision, next: None, remaining: None };
    }
    objects.truncate(limit);
    let next = objects.last().map(|last| encode_token(revision, &format!("{}\0", last.key)));
    Page { objects, revision, next, remaining: filter.is_empty().then_some(total - limit) }
}

async fn continued(
    cx: &Cx,
    cache: &Cache,
    options: &ListOptions,
    filter: &Filter,
    token: &Continue,
) -> Result<Result<Page, HttpResponse>, Status> {
    if token.rv > 0 {
        return at_revision(cx, cache, options, filter, &token.start, token.rv).await;
    }
    cx.server.caches.wait_for(cx.server.registry.revision().await?).await?;
    let observed = cx.server.caches.observed();
    let (mut objects, applied) = cache.list(&cx.info.namespace);
    objects.retain(|object| object.key >= token.start && filter.matches(&cx.kind, object));
    Ok(Ok(cut(objects, options.limit, observed.max(applied), filter)))
}

/// Reads the store as it was, from the key `start` (relative to the kind's prefix) on.
async fn at_revision(
    cx: &Cx,
    cache: &Cache,
    options: &ListOptions,
    filter: &Filter,
    start: &str,
    revision: i64,
) -> Result<Result<Page, HttpResponse>, Status> {
    let namespace = Some(cx.info.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let mut request = RangeRequest::prefix(cx.kind.key_prefix(namespace)).at(revision);
    if !start.is_empty() {
        request.key = format!("{}{start}", cache.prefix).into();
    }
    let answer = match cx.server.registry.store.range(request).await {
        Ok(answer) => answer,
        Err(store::Error::Mvcc(mvcc::Error::Compacted { .. })) => return Ok(Err(expired(cx, start)?)),
        Err(error) => return Err(registry::store_failed(error)),
    };
    let mut objects = Vec::with_capacity(answer.kvs.len());
    for kv in &answer.kvs {
        let key = String::from_utf8_lossy(kv.key.get(cache.prefix.len()..).unwrap_or_default()).into_owned();
        let object = Object::new(key, kv.value.clone(), kv.mod_revision, &cache.fields).map_err(Status::internal)?;
        if filter.matches(&cx.kind, &object) {
            objects.push(Arc::new(object));
        }
    }
    Ok(Ok(cut(objects, options.limit, revision, filter)))
}

/// `kubernetes/apiserver pkg/storage/etcd3/errors.go: handleCompactedErrorForPaging`.
fn expired(cx: &Cx, start: &str) -> Result<HttpResponse, Status> {
    if start.is_empty() {
        return Err(Status::expired("The resourceVersion for the provided list is too old."));
    }
    let words = "The provided continue parameter is too old to display a consistent list result. You can start a new \
                 list without the continue parameter, or use the continue token in this response to retrieve the \
                 remainder of the results. Continuing with the provided token results in an inconsistent list - \
                 objects that were created, modified, or deleted between the time the first chunk was returned and \
                 now may show up in the list.";
    let mut value: Value = serde_json::from_slice(&Status::expired(words).to_json()).map_err(Status::internal)?;
    value["metadata"] = json!({ "continue": encode_token(-1, start) });
    respond::tree(cx, 410, &value)
}

fn encode_token(rv: i64, start: &str) -> String {
    let token = Continue { v: TOKEN_VERSION.to_owned(), rv, start: start.to_owned() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn decode_token(text: &str) -> Result<Continue, Status> {
    let invalid = |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid(error.to_string()))?;
    let token: Continue = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    if token.v != TOKEN_VERSION {
        return Err(invalid(format!("server does not recognize this encoded version {:?}", token.v)));
    }
    if token.rv == 0 {
        return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned()));
    }
    if token.start.split('/').any(|part| part == "..") {
        return Err(invalid(format!("invalid start key {:?}", token.start)));
    }
    Ok(token)
}

fn list_meta(page: &Page) -> Value {
    let mut meta = json!({ "resourceVersion": page.revision.to_string() });
    if let Some(next) = &page.next {
        meta["continue"] = json!(next);
    }
    if let Some(remaining) = page.remaining {
        meta["remainingItemCount"] = json!(remaining);
    }
    meta
}

fn write(cx: &Cx, page: &Page) -> Result<HttpResponse, Status> {
    let meta = list_meta(page);
    let whole_json = cx.accept.shape == Shape::Whole && cx.accept.media == crate::negotiate::Media::Json;
    if whole_json && registry::sent_as_stored(&cx.kind) {
        return write_through(cx, page, &meta);
    }
    let mut values = Vec::with_capacity(page.objects.len());
    for object in &page.objects {
        values.push(registry::from_storage(&cx.kind, object.value())?);
    }
    let tree = match cx.accept.shape {
        Shape::Table => table::table(&cx.kind, &values, cx.accept.include, true, meta, cx.now),
        Shape::Whole => {
            let (kind, version) = (cx.kind.list_kind(), cx.kind.api_version());
            json!({ "kind": kind, "apiVersion": version, "metadata": meta, "items": values })
        }
        Shape::Metadata | Shape::MetadataList => {
            let items: Vec<Value> = values.iter().map(respond::partial).collect();
            json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items })
        }
    };
    respond::tree(cx, 200, &tree)
}

/// The stored bytes as they are, between a list's head and its end.
fn write_through(cx: &Cx, page: &Page, meta: &Value) -> Result<HttpResponse, Status> {
    let size: usize = page.objects.iter().map(|object| object.encoded.bytes.len() + 40).sum();
    let mut out = Vec::with_capacity(size + 256);
    let head = format!(
        "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{meta},\"items\":[",
        cx.kind.list_kind(),
        cx.kind.api_version()
    );
    out.extend_from_slice(head.as_bytes());
    for (at, object) in page.objects.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        object.encoded.write_to(&mut out).map_err(Status::internal)?;
    }
    out.extend_from_slice(b"]}");
    let mut response = wire::answer(http::StatusCode::OK, cx.accept.media.content_type(), wire::full(out));
    respond::add_warnings(cx, &mut response);
    Ok(response)
}
