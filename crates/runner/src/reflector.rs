//! Keeps one kind of the cache equal to the API server's: a list, then a watch for as long as it lasts.

use std::time::Duration;

use bytes::Bytes;
use reconcile::Resource;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{debug, warn};

use crate::api::{Api, Detail, Refusal};

const PAGE_MAX: usize = 500;
const WATCH_SECONDS: u32 = 290;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Takes in what a reflector reads.
pub trait Sink: Send + Sync {
    /// The whole content at `revision`.
    fn replace(&self, objects: &[&RawValue], revision: u64) -> Result<(), serde_json::Error>;
    fn apply(&self, object: &str) -> Result<(), serde_json::Error>;
    fn remove(&self, object: &str) -> Result<(), serde_json::Error>;
    /// Everything up to `revision` has been told.
    fn observe(&self, _revision: u64) {}
}

/// What to reflect.
pub struct Source {
    pub resource: Resource,
    pub field_selector: String,
    pub detail: Detail,
}

#[derive(Deserialize)]
struct Page<'a> {
    metadata: PageMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Versioned {
    metadata: PageMeta,
}

enum Ended {
    /// Go on from the last revision.
    Closed,
    /// The revision is gone: list again.
    Expired,
}

/// Reflects `source` into `sink` until dropped; `listed` is told after each complete list, and also when the
/// resource is not served, so that nobody waits for it.
pub async fn reflect(api: Api, source: Source, sink: impl Sink, listed: impl Fn()) {
    let mut retry = RETRY_FIRST;
    loop {
        match list(&api, &source, &sink).await {
            Ok(mut revision) => {
                listed();
                retry = RETRY_FIRST;
                if let Err(refusal) = follow(&api, &source, &sink, &mut revision).await {
                    warn!(resource = %source.resource, %refusal, "watch failed");
                    tokio::time::sleep(retry).await;
                }
            }
            Err(refusal) => {
                // What is not served or not allowed is done without; nobody waits for it.
                if matches!(refusal.code, 400 | 403 | 404 | 405) {
                    debug!(resource = %source.resource, %refusal, "not to be had");
                    listed();
                } else {
                    warn!(resource = %source.resource, %refusal, "list failed");
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn list(api: &Api, source: &Source, sink: &impl Sink) -> Result<String, Refusal> {
    let base = source.resource.collection_path("");
    let mut pages: Vec<Bytes> = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let mut path = format!("{base}?limit={PAGE_MAX}{}", selector(source));
        if let Some(token) = &next {
            path.push_str("&continue=");
            path.push_str(&escape(token));
        }
        let body = api.list(&path, source.detail).await?;
        let page: Page<'_> = serde_json::from_slice(&body).map_err(Refusal::unreadable)?;
        next = page.metadata.next.filter(|t| !t.is_empty());
        let revision = page.metadata.resource_version;
        pages.push(body);
        if next.is_none() {
            let pages: Result<Vec<Page<'_>>, _> = pages.iter().map(|p| serde_json::from_slice(p)).collect();
            let pages = pages.map_err(Refusal::unreadable)?;
            let items: Vec<&RawValue> = pages.into_iter().flat_map(|p| p.items.unwrap_or_default()).collect();
            sink.replace(&items, revision.parse().unwrap_or(0)).map_err(Refusal::unreadable)?;
            return Ok(revision);
        }
    }
}

/// Watches from `revision` until the revision is gone.
async fn follow(api: &Api, source: &Source, sink: &impl Sink, revision: &mut String) -> Result<(), Refusal> {
    let base = source.resource.collection_path("");
    let mut retry = RETRY_FIRST;
    loop {
        let path = format!(
            "{base}?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={revision}{}",
            selector(source)
        );
        let ended = match api.watch(&path, source.detail).await {
            Ok(mut lines) => {
                let before = revision.clone();
                let ended = drain(&mut lines, sink, revision).await;
                if *revision != before {
                    retry = RETRY_FIRST;
                }
                ended
            }
            Err(refusal) => Err(refusal),
        };
        match ended {
            Ok(Ended::Closed) => tokio::time::sleep(Duration::from_millis(10)).await,
            Ok(Ended::Expired) => return Ok(()),
            Err(refusal) if refusal.code == 410 || refusal.code == 404 => return Ok(()),
            Err(refusal) => {
                warn!(resource = %source.resource, %refusal, "watch broke");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn drain(lines: &mut crate::api::Lines, sink: &impl Sink, revision: &mut String) -> Result<Ended, Refusal> {
    while let Some(line) = lines.next().await? {
        if line.is_empty() {
            continue;
        }
        let line: Line<'_> = serde_json::from_slice(&line).map_err(Refusal::unreadable)?;
        let object = line.object.get();
        match line.kind {
            "ADDED" | "MODIFIED" => leave_out_unreadable(sink.apply(object), object),
            "DELETED" => leave_out_unreadable(sink.remove(object), object),
            "BOOKMARK" => {}
            _ => {
                let status: serde_json::Value = serde_json::from_str(object).map_err(Refusal::unreadable)?;
                if status["code"] == 410 {
                    return Ok(Ended::Expired);
                }
                let message = status["message"].as_str().unwrap_or("the watch reported an error").to_string();
                return Err(Refusal { code: 0, reason: String::new(), message, causes: Vec::new() });
            }
        }
        let at: Versioned = serde_json::from_str(object).map_err(Refusal::unreadable)?;
        *revision = at.metadata.resource_version;
        if line.kind == "BOOKMARK" {
            sink.observe(revision.parse().unwrap_or(0));
        }
    }
    Ok(Ended::Closed)
}

/// One object that cannot be read must not keep the others from being seen.
fn leave_out_unreadable(seen: Result<(), serde_json::Error>, object: &str) {
    if let Err(error) = seen {
        warn!(%error, object, "an object is left out");
    }
}

fn selector(source: &Source) -> String {
    if source.field_selector.is_empty() {
        String::new()
    } else {
        format!("&fieldSelector={}", escape(&source.field_selector))
    }
}

/// Percent-encodes a query value.
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
