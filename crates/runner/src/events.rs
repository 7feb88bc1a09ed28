//! Tells what happened as `Event` objects, counting repetitions instead of repeating them.
//!
//! kubernetes/client-go tools/record: decides what counts as the same event, the spam limit (25 at once for a source
//! and object, then one in five minutes) and the aggregation of more than ten similar events in ten minutes.

use std::collections::HashMap;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::api::Api;

const BACKLOG_MAX: usize = 1000;
const REMEMBERED_MAX: usize = 4096;
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;
const SIMILAR_MAX: usize = 10;
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);

/// Something to tell.
#[derive(Clone, Debug)]
pub struct Told {
    pub source: &'static str,
    pub about: ObjectReference,
    pub kind: &'static str,
    pub reason: String,
    pub message: String,
}

/// Hands events over without waiting; when thousands wait already, new ones are dropped, as upstream does.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Told>,
}

impl Recorder {
    /// A recorder that writes through `api` until it is dropped.
    pub fn start(api: Api) -> Recorder {
        let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
        tokio::spawn(write(api, receiver));
        Recorder { sender }
    }

    pub fn tell(&self, told: Told) {
        if self.sender.try_send(told).is_err() {
            debug!("event dropped: too many are waiting");
        }
    }
}

struct Known {
    namespace: String,
    name: String,
    count: u64,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

#[derive(Default)]
struct Correlator {
    known: HashMap<String, Known>,
    buckets: HashMap<String, Bucket>,
    similar: HashMap<String, (Vec<String>, Instant)>,
}

impl Correlator {
    /// Whether the source may still speak about the object.
    fn admits(&mut self, told: &Told, now: Instant) -> bool {
        let key = format!("{}|{}", told.source, identity(&told.about));
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: BURST, at: now });
        let earned = now.duration_since(bucket.at).as_secs_f64() * REFILL_PER_SECOND;
        bucket.tokens = (bucket.tokens + earned).min(BURST);
        bucket.at = now;
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }

    /// Events that differ in their message alone become one when there are too many of them.
    fn combine(&mut self, told: &mut Told, now: Instant) {
        let key = format!("{}|{}|{}|{}", told.source, identity(&told.about), told.kind, told.reason);
        let entry = self.similar.entry(key).or_insert_with(|| (Vec::new(), now));
        if now.duration_since(entry.1) > SIMILAR_WITHIN {
            entry.0.clear();
        }
        entry.1 = now;
        if !entry.0.contains(&told.message) && entry.0.len() <= SIMILAR_MAX {
            entry.0.push(told.message.clone());
        }
        if entry.0.len() > SIMILAR_MAX {
            told.message = format!("(combined from similar events): {}", told.message);
        }
    }

    fn shrink(&mut self) {
        if self.known.len() > REMEMBERED_MAX {
            self.known.clear();
        }
        if self.buckets.len() > REMEMBERED_MAX {
            self.buckets.clear();
        }
        if self.similar.len() > REMEMBERED_MAX {
            self.similar.clear();
        }
    }
}

fn identity(about: &ObjectReference) -> String {
    let part = |s: &Option<String>| s.clone().unwrap_or_default();
    format!("{}/{}/{}/{}", part(&about.kind), part(&about.namespace), part(&about.name), part(&about.uid))
}

async fn write(api: Api, mut receiver: mpsc::Receiver<Told>) {
    let mut correlator = Correlator::default();
    while let Some(mut told) = receiver.recv().await {
        let now = Instant::now();
        correlator.shrink();
        correlator.combine(&mut told, now);
        if !correlator.admits(&told, now) {
            continue;
        }
        let combined = told.message.starts_with("(combined");
        let same = if combined { "" } else { &told.message };
        let field = told.about.field_path.clone().unwrap_or_default();
        let key = format!("{}|{}|{field}|{}|{}|{same}", told.source, identity(&told.about), told.kind, told.reason);
        if let Some(known) = correlator.known.get_mut(&key) {
            known.count += 1;
            if repeat(&api, known, &told).await {
                continue;
            }
            correlator.known.remove(&key);
        }
        let (namespace, name, event) = fresh(&told, Timestamp::now());
        let path = format!("/api/v1/namespaces/{namespace}/events");
        const JSON: &str = "application/json";
        match api.call(Method::POST, &path, JSON, JSON, Some(&event)).await {
            Ok(_) => {
                correlator.known.insert(key, Known { namespace, name, count: 1 });
            }
            Err(refusal) => debug!(%refusal, reason = told.reason, "event not written"),
        }
    }
}

/// Counts a known event up; false if it is gone.
async fn repeat(api: &Api, known: &Known, told: &Told) -> bool {
    let path = format!("/api/v1/namespaces/{}/events/{}", known.namespace, known.name);
    let patch = json!({
        "count": known.count,
        "lastTimestamp": seconds(Timestamp::now()),
        "message": told.message,
    });
    let json = "application/json";
    api.call(Method::PATCH, &path, "application/merge-patch+json", json, Some(&patch)).await.is_ok()
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn fresh(told: &Told, now: Timestamp) -> (String, String, Value) {
    let namespace = told.about.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".into());
    let name = format!("{}.{:x}", told.about.name.as_deref().unwrap_or("unknown"), now.as_nanosecond());
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": told.about,
        "reason": told.reason,
        "message": told.message,
        "type": told.kind,
        "count": 1,
        "firstTimestamp": seconds(now),
        "lastTimestamp": seconds(now),
        "source": {"component": told.source},
        "reportingComponent": told.source,
        "reportingInstance": "",
    });
    (namespace, name, event)
}
