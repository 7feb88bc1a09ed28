//! LIST: from the cache, bytes through, or page by page from the store at one revision.
//!
//! `kubernetes/apiserver pkg/storage: which resourceVersion and match rule reads from where`.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kinds::kind::SchemaSource;
use machinery::decode;
use machinery::status::Status;
use mvcc::RangeRequest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cache::{Cache, Object};
use crate::context::Cx;
use crate::http::HttpResponse;
use crate::negotiate::{Media, Shape};
use crate::query::{ListOptions, VersionMatch};
use crate::select::Filter;
use crate::{conversion, http as wire, registry, respond};

/// The token upstream writes: version, revision, and the first key of the next page, relative to what is listed (the
/// kind, or its objects in one namespace). Anybody can write one, so it may only lead to what the request may list.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// A page of a list.
pub struct Page {
    pub objects: Vec<Arc<Object>>,
    revision: i64,
    next: Option<String>,
    remaining: Option<usize>,
}

pub async fn list(cx: &Cx) -> Result<HttpResponse, Status> {
    match page(cx).await? {
        Ok(page) => write(cx, &page).await,
        Err(expired) => Ok(expired),
    }
}

/// What the request lists. The inner result's error is a whole answer: 410 with a token that goes on inconsistently.
pub async fn page(cx: &Cx) -> Result<Result<Page, HttpResponse>, Status> {
    let options = ListOptions::parse(&cx.query, false)?;
    let filter = Filter::new(&cx.kind, &options)?;
    read(cx, &options, &filter).await
}

/// The revision a client named, or what is wrong with it.
pub fn parse_revision(text: &str) -> Result<i64, String> {
    text.parse::<i64>().ok().filter(|revision| *revision >= 0).ok_or_else(|| {
        format!("resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax")
    })
}

async fn read(cx: &Cx, options: &ListOptions, filter: &Filter) -> Result<Result<Page, HttpResponse>, Status> {
    let cache = cx.cache()?;
    let named = options.resource_version.as_deref().map(parse_revision).transpose();
    let named = named.map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))?;
    if let Some(token) = &options.continue_token {
        let token = decode_token(token)?;
        if named.is_some_and(|revision| revision != 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        return continued(cx, &cache, options, filter, &token).await;
    }
    // A first page that names a revision is of that revision, so that its others can be too.
    let first_page = options.limit > 0 && options.version_match == VersionMatch::Unset;
    match (named, options.version_match) {
        (Some(revision), _) if options.version_match == VersionMatch::Exact || (first_page && revision > 0) => {
            cx.server.caches.wait_for(revision).await?;
            return at_revision(cx, &cache, options, filter, "", revision).await;
        }
        (None, _) => cx.server.caches.wait_for(cx.server.registry.revision().await?).await?,
        (Some(revision), _) => cx.server.caches.wait_for(revision).await?,
    }
    // Everything up to what was observed before is in the cache afterwards, and maybe more.
    let observed = cx.server.caches.observed();
    let (mut objects, applied) = cache.list(&cx.info.namespace);
    objects = filter.choose(&cx.server, &cx.kind, objects).await?;
    Ok(Ok(cut(cx, objects, options.limit, observed.max(applied), filter)))
}

/// What the cache's keys of the request's objects begin with: `namespace/`, or nothing.
fn within(cx: &Cx) -> String {
    if cx.info.namespace.is_empty() { String::new() } else { format!("{}/", cx.info.namespace) }
}

/// The first page of what matches, and the token for the rest.
fn cut(cx: &Cx, mut objects: Vec<Arc<Object>>, limit: usize, revision: i64, filter: &Filter) -> Page {
    let total = objects.len();
    if limit == 0 || total <= limit {
        return Page { objects, revision, next: None, remaining: None };
    }
    objects.truncate(limit);
    let within = within(cx);
    let relative = |key: &str| format!("{}\0", key.strip_prefix(within.as_str()).unwrap_or(key));
    let next = objects.last().map(|last| encode_token(revision, &relative(&last.key)));
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
    let start = format!("{}{}", within(cx), token.start);
    objects.retain(|object| object.key >= start);
    objects = filter.choose(&cx.server, &cx.kind, objects).await?;
    Ok(Ok(cut(cx, objects, options.limit, observed.max(applied), filter)))
}

/// Reads the store as it was, from the key `start` (relative to what is listed) on.
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
        request.key = format!("{}{}{start}", cache.prefix, within(cx)).into();
    }
    let answer = match cx.server.registry.store.range(request).await {
        Ok(answer) => answer,
        Err(store::Error::Mvcc(mvcc::Error::Compacted { .. })) => return Ok(Err(expired(cx, start)?)),
        Err(store::Error::Mvcc(mvcc::Error::FutureRevision { requested, current })) => {
            return Err(crate::caches::too_large_revision(requested, current));
        }
        Err(error) => return Err(registry::store_failed(error)),
    };
    let mut objects = Vec::with_capacity(answer.kvs.len());
    for kv in &answer.kvs {
        let key = String::from_utf8_lossy(kv.key.get(cache.prefix.len()..).unwrap_or_default()).into_owned();
        let object = Object::new(key, kv.value.clone(), kv.mod_revision, &cache.fields).map_err(Status::internal)?;
        objects.push(Arc::new(object));
    }
    let objects = filter.choose(&cx.server, &cx.kind, objects).await?;
    Ok(Ok(cut(cx, objects, options.limit, revision, filter)))
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

/// `kubernetes/apiserver pkg/storage/continue.go: DecodeContinue`.
fn decode_token(text: &str) -> Result<Continue, Status> {
    let invalid =
        |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid(error.to_string()))?;
    let decoded = decode::json(&bytes, None).map_err(|error| invalid(error.to_string()))?;
    let token: Continue = serde_json::from_value(decoded.value).map_err(|error| invalid(error.to_string()))?;
    if token.v != TOKEN_VERSION {
        return Err(invalid(format!("server does not recognize this encoded version {}", token.v)));
    }
    if token.rv == 0 {
        return Err(invalid(format!("incorrect encoded start resourceVersion (version {TOKEN_VERSION})")));
    }
    if token.start.is_empty() {
        return Err(invalid(format!("encoded start key empty (version {TOKEN_VERSION})")));
    }
    let start = token.start.strip_prefix('/').unwrap_or(&token.start);
    // Not one step up, and written in one way only.
    if start.split('/').any(|step| matches!(step, "" | "." | "..")) {
        return Err(invalid(token.start));
    }
    Ok(Continue { start: start.to_owned(), ..token })
}

fn list_meta(cx: &Cx, page: &Page) -> Value {
    let mut meta = json!({ "resourceVersion": page.revision.to_string() });
    // A list that is not typed says also that nothing follows.
    if matches!(cx.kind.schema, SchemaSource::Custom(_)) && cx.accept.shape == Shape::Whole {
        meta["continue"] = json!("");
    }
    if let Some(next) = &page.next {
        meta["continue"] = json!(next);
    }
    if let Some(remaining) = page.remaining {
        meta["remainingItemCount"] = json!(remaining);
    }
    meta
}

/// A page in the form asked for.
pub async fn write(cx: &Cx, page: &Page) -> Result<HttpResponse, Status> {
    let meta = list_meta(cx, page);
    let whole = |media| cx.accept.shape == Shape::Whole && cx.accept.media == media;
    if whole(Media::Json) && registry::sent_as_stored(&cx.kind) {
        return write_through(cx, page, &meta);
    }
    let mut values = Vec::with_capacity(page.objects.len());
    values.extend(page.objects.iter().map(|object| object.value()));
    conversion::all(&cx.server, &cx.kind, &mut values).await?;
    if whole(Media::Protobuf) {
        return write_protobuf(cx, &meta, &values);
    }
    if cx.accept.shape == Shape::Whole {
        values.iter_mut().for_each(|value| as_item(cx, value));
    }
    respond::list(cx, &meta, &values)
}

/// An object as its list holds it: one of a built-in kind does not say what it is.
fn as_item(cx: &Cx, value: &mut Value) {
    if let (SchemaSource::Facts(_), Some(fields)) = (&cx.kind.schema, value.as_object_mut()) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
}

fn write_protobuf(cx: &Cx, meta: &Value, values: &[Value]) -> Result<HttpResponse, Status> {
    let written = kinds::protobuf::encode_list(&cx.kind.api_version(), &cx.kind.list_kind(), meta, values);
    respond::bytes(cx, 200, written.ok_or_else(respond::not_acceptable)?)
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
        let written = match cx.kind.schema {
            SchemaSource::Facts(_) => object.encoded.write_item_to(&mut out),
            SchemaSource::Custom(_) => object.encoded.write_to(&mut out),
        };
        written.map_err(Status::internal)?;
    }
    out.extend_from_slice(b"]}");
    let mut response = wire::answer(http::StatusCode::OK, cx.accept.media.content_type(), wire::full(out));
    respond::add_warnings(cx, &mut response);
    Ok(response)
}
