//! WATCH: the cache's changes from a revision on, as a stream of events in JSON or protobuf.
//!
//! `kubernetes/apiserver pkg/storage/cacher/cache_watcher.go: what a change is to a watch with a selector`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use kinds::Kind;
use machinery::object::Encoded;
use machinery::status::Status;
use prometheus_client::metrics::counter::Counter;
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cache::{Cache, Change, Cursor, Next, Object};
use crate::context::Cx;
use crate::http::{self as wire, HttpResponse};
use crate::negotiate::{Accept, Media, Shape};
use crate::query::ListOptions;
use crate::select::Filter;
use crate::server::Inner;
use crate::verbs::list::parse_revision;
use crate::{conversion, registry, respond, table};

/// `kubernetes/apiserver pkg/storage/cacher: defaultBookmarkFrequency`.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The last bookmark comes so long before the watch ends, so that the next one can begin close to now.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Changes handed on at once.
const BATCH: usize = 256;
/// `kubernetes/apiserver pkg/server/config.go: MinRequestTimeout`, from which the default timeout is drawn.
const TIMEOUT_MIN: Duration = Duration::from_secs(1800);

pub async fn watch(cx: &Cx) -> Result<HttpResponse, Status> {
    if cx.accept.media == Media::Yaml {
        return Err(respond::not_streamable());
    }
    let mut options = ListOptions::parse(&cx.query, true)?;
    if cx.info.watch_by_path && !cx.info.name.is_empty() {
        options.field_selector = format!("metadata.name={}", cx.info.name);
    }
    let filter = Filter::new(&cx.kind, &options)?;
    let cache = cx.cache()?;
    let named = options.resource_version.as_deref().map(parse_revision).transpose().map_err(Status::unknown)?;
    let named = named.unwrap_or(0);
    let initial = options.send_initial_events.unwrap_or(named == 0);
    if options.resource_version.is_none() {
        // A watch of no version begins with the state of now, not with that of a moment ago.
        cx.server.caches.wait_for(cx.server.registry.revision().await?).await?;
    } else if options.send_initial_events == Some(true) {
        cx.server.caches.wait_for(named).await?;
    }
    let mut events = Events::new(cx, cache, filter, &options);
    if initial {
        events.start_with_state(options.send_initial_events == Some(true)).await;
    } else if let Err(floor) = events.start_after(named) {
        let status = Status::expired(format!("too old resource version: {named} ({floor})"));
        return Ok(answer(cx, wire::full(error_event(cx.accept.media, &status))));
    }
    let stream = futures::stream::unfold(events, |mut events| async move {
        let batch = events.next().await?;
        Some((Ok(Bytes::from(batch)), events))
    });
    Ok(answer(cx, wire::stream(stream)))
}

/// `kubernetes/apiserver pkg/storage/cacher/cache_watcher.go: nextBookmarkTime`; `share` spreads the first ones.
fn next_bookmark(now: Instant, ends: Instant, share: f64) -> Instant {
    let regular = now + BOOKMARK_EVERY.mul_f64(share);
    let last = ends.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now);
    last.map_or(regular, |last| last.min(regular))
}

fn answer(cx: &Cx, body: wire::Body) -> HttpResponse {
    let content_type = match cx.accept.media {
        Media::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        media => media.content_type(),
    };
    let mut response = wire::answer(StatusCode::OK, content_type, body);
    respond::add_warnings(cx, &mut response);
    response
}

fn error_event(media: Media, status: &Status) -> Vec<u8> {
    let mut event = Vec::new();
    let object = serde_json::from_slice(&status.to_json()).map_err(Status::internal);
    if let Err(error) = object.and_then(|object: Value| write_event(&mut event, media, "ERROR", &object)) {
        tracing::error!(error = %error.message, "a watch's error cannot be sent");
    }
    event
}

/// An event with its object: a line of JSON, or a length and a message.
fn write_event(out: &mut Vec<u8>, media: Media, what: &str, object: &Value) -> Result<(), Status> {
    match media {
        Media::Protobuf => kinds::protobuf::write_event(out, what, &respond::encode(media, object)?),
        _ => out.extend_from_slice(format!("{{\"type\":\"{what}\",\"object\":{object}}}\n").as_bytes()),
    }
    Ok(())
}

/// The stored bytes as they are.
fn write_stored_event(out: &mut Vec<u8>, what: &str, object: &Encoded) -> Result<(), Status> {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(what.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object.write_to(out).map_err(Status::internal)?;
    out.extend_from_slice(b"}\n");
    Ok(())
}

/// One client's watch.
struct Events {
    server: Arc<Inner>,
    cache: Arc<Cache>,
    kind: Arc<Kind>,
    filter: Filter,
    accept: Accept,
    namespace: String,
    cursor: Option<Cursor>,
    /// Bytes to send before anything else.
    ready: Vec<u8>,
    bookmarks: bool,
    next_bookmark: Instant,
    /// A bookmark to send once the changes up to its revision are sent.
    mark: Option<i64>,
    ends: Instant,
    over: bool,
    /// The table's columns have been sent.
    columns_sent: bool,
    as_stored: bool,
    sent: Counter,
}

impl Events {
    fn new(cx: &Cx, cache: Arc<Cache>, filter: Filter, options: &ListOptions) -> Events {
        let timeout = options.timeout.unwrap_or_else(|| TIMEOUT_MIN.mul_f64(1.0 + rand::rng().random::<f64>()));
        let now = Instant::now();
        Events {
            server: Arc::clone(&cx.server),
            cache,
            kind: Arc::clone(&cx.kind),
            filter,
            accept: cx.accept,
            namespace: cx.info.namespace.clone(),
            cursor: None,
            ready: Vec::new(),
            bookmarks: options.allow_bookmarks,
            next_bookmark: next_bookmark(now, now + timeout, 0.75 + 0.25 * rand::rng().random::<f64>()),
            mark: None,
            ends: now + timeout,
            over: false,
            columns_sent: false,
            as_stored: cx.accept.shape == Shape::Whole
                && cx.accept.media != Media::Protobuf
                && registry::sent_as_stored(&cx.kind),
            sent: cx.server.gauges.watch_events(&cx.kind),
        }
    }

    /// Begins with the objects there are, as if each were new; `marked` tells where they end.
    async fn start_with_state(&mut self, marked: bool) {
        let observed = self.server.caches.observed();
        let (objects, applied, cursor) = self.cache.snapshot(&self.namespace);
        let mut out = Vec::new();
        for object in &objects {
            if let Some(object) = self.inside(Some(object)).await {
                self.event(&mut out, "ADDED", &object.encoded).await;
            }
        }
        if marked && self.bookmarks {
            self.bookmark(&mut out, observed.max(applied), true);
        }
        self.ready = out;
        self.cursor = Some(cursor);
    }

    fn start_after(&mut self, revision: i64) -> Result<(), i64> {
        self.cursor = Some(self.cache.cursor_after(revision)?);
        Ok(())
    }

    /// The next events, as lines; `None` when the watch is over.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if !self.ready.is_empty() {
            return Some(std::mem::take(&mut self.ready));
        }
        let cache = Arc::clone(&self.cache);
        let mut cursor = self.cursor?;
        while !self.over {
            let changed = cache.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let batch = match cache.next(&mut cursor, BATCH) {
                Next::Changes(changes) => self.lines(&changes).await,
                Next::Lost => {
                    self.over = true;
                    return Some(error_event(self.accept.media, &Status::expired("too old resource version")));
                }
                Next::Closed => return None,
                Next::Wait => match self.mark.take() {
                    Some(revision) => self.bookmark_alone(revision),
                    None => Vec::new(),
                },
            };
            self.cursor = Some(cursor);
            if !batch.is_empty() {
                return Some(batch);
            }
            if let Some(revision) = self.wait(changed).await? {
                self.mark = Some(revision);
            }
        }
        None
    }

    /// Waits for a change, the next bookmark or the end. A bookmark's revision is read before the changes up to it are.
    async fn wait(&mut self, changed: impl Future<Output = ()>) -> Option<Option<i64>> {
        let stopping = self.server.stopping().clone();
        tokio::select! {
            () = changed => Some(None),
            () = stopping.cancelled() => None,
            () = tokio::time::sleep_until(self.ends) => None,
            () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                self.next_bookmark = next_bookmark(Instant::now(), self.ends, 1.0);
                Some(Some(self.server.caches.observed()))
            }
        }
    }

    async fn lines(&mut self, changes: &[Change]) -> Vec<u8> {
        let mut out = Vec::new();
        for change in changes {
            let before = self.inside(change.previous.as_ref()).await;
            let now = self.inside(change.current.as_ref()).await;
            match (before, now) {
                (None, Some(now)) => self.event(&mut out, "ADDED", &now.encoded).await,
                (Some(_), Some(now)) => self.event(&mut out, "MODIFIED", &now.encoded).await,
                (Some(before), None) => {
                    // What was there, at the revision at which it left.
                    let gone = crate::cache::encoded(before.encoded.bytes.clone(), change.revision);
                    self.event(&mut out, "DELETED", &gone).await;
                }
                (None, None) => {}
            }
        }
        out
    }

    /// What the watch is about. What cannot be converted is as if it were not there.
    async fn inside(&self, object: Option<&Arc<Object>>) -> Option<Arc<Object>> {
        let everywhere = self.namespace.is_empty() || !self.kind.namespaced();
        let object = object.filter(|object| everywhere || object.namespace() == self.namespace)?;
        if !self.filter.by_converted_fields(&self.kind) {
            return self.filter.matches(&self.kind, object).then(|| Arc::clone(object));
        }
        match self.filter.choose(&self.server, &self.kind, vec![Arc::clone(object)]).await {
            Ok(mut chosen) => chosen.pop(),
            Err(status) => {
                tracing::error!(error = %status.message, prefix = %self.cache.prefix, "a stored object cannot be selected");
                None
            }
        }
    }

    async fn event(&mut self, out: &mut Vec<u8>, what: &str, object: &Encoded) {
        let start = out.len();
        let written = if self.as_stored {
            write_stored_event(out, what, object)
        } else {
            self.shaped(object).await.and_then(|value| write_event(out, self.accept.media, what, &value))
        };
        match written {
            Ok(()) => {
                self.sent.inc();
            }
            Err(status) => {
                out.truncate(start);
                tracing::error!(error = %status.message, prefix = %self.cache.prefix, "a stored object cannot be sent");
            }
        }
    }

    async fn shaped(&mut self, object: &Encoded) -> Result<Value, Status> {
        let value = conversion::one(&self.server, &self.kind, crate::cache::decode(object)).await?;
        Ok(match self.accept.shape {
            Shape::Whole => value,
            Shape::Metadata | Shape::MetadataList => respond::partial(&value),
            Shape::Table => {
                let head = !std::mem::replace(&mut self.columns_sent, true);
                let meta = json!({ "resourceVersion": object.rv.to_string() });
                table::table(&self.kind, &[value], self.accept.include, head, meta, Timestamp::now())
            }
        })
    }

    fn bookmark_alone(&mut self, revision: i64) -> Vec<u8> {
        let mut out = Vec::new();
        self.bookmark(&mut out, revision, false);
        out
    }

    /// An event without an object: how far the watch is. `initial_end` says that the initial events are all sent.
    fn bookmark(&mut self, out: &mut Vec<u8>, revision: i64, initial_end: bool) {
        let mut meta = json!({ "resourceVersion": revision.to_string() });
        if initial_end {
            meta["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let mut object =
            json!({ "kind": self.kind.names.kind, "apiVersion": self.kind.api_version(), "metadata": meta });
        match self.accept.shape {
            Shape::Whole => {}
            Shape::Metadata | Shape::MetadataList => object = respond::partial(&object),
            Shape::Table => {
                let head = !std::mem::replace(&mut self.columns_sent, true);
                let list_meta = json!({ "resourceVersion": revision.to_string() });
                object = table::table(&self.kind, &[object], self.accept.include, head, list_meta, Timestamp::now());
            }
        }
        if let Err(error) = write_event(out, self.accept.media, "BOOKMARK", &object) {
            tracing::error!(error = %error.message, prefix = %self.cache.prefix, "a bookmark cannot be sent");
        }
    }
}
