//! All watch caches together, and the one task that keeps them current from the store's watch.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use kinds::Kind;
use machinery::status::Status;
use mvcc::{EventKind, KeyValue, RangeRequest};
use store::{Store, WatchRequest, WatchResponse};
use tokio::sync::watch;

use crate::cache::{Cache, Object};
use crate::catalog::StoredFields;

/// How long a read waits for the cache to reach the revision it wants.
/// `kubernetes/apiserver pkg/storage/cacher: blockTimeout`.
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);

/// The caches by storage prefix.
pub struct Caches {
    store: Arc<dyn Store>,
    by_prefix: RwLock<BTreeMap<String, Arc<Cache>>>,
    /// Every event up to this revision has been applied.
    observed: watch::Sender<i64>,
    /// Held while events are applied or a cache is loaded, so that neither sees the other half done.
    filling: tokio::sync::Mutex<()>,
}

impl Caches {
    /// Loads everything once; [`Caches::follow`] keeps it current from there.
    pub async fn load(store: Arc<dyn Store>, kinds: &[Arc<Kind>]) -> Result<(Arc<Caches>, i64), store::Error> {
        let mut by_prefix = BTreeMap::new();
        for kind in kinds.iter().filter(|kind| !kind.storage_prefix.is_empty()) {
            let prefix = kind.key_prefix(None);
            by_prefix.entry(prefix.clone()).or_insert_with(|| Arc::new(Cache::new(prefix, StoredFields::of(kind))));
        }
        let caches = Arc::new(Caches {
            store,
            by_prefix: RwLock::new(by_prefix),
            observed: watch::Sender::new(0),
            filling: tokio::sync::Mutex::new(()),
        });
        let revision = caches.reload().await?;
        Ok((caches, revision))
    }

    /// The cache that holds a kind's objects.
    pub fn of(&self, kind: &Kind) -> Option<Arc<Cache>> {
        self.by_prefix.read().unwrap_or_else(PoisonError::into_inner).get(&kind.key_prefix(None)).cloned()
    }

    /// Starts a cache for a kind that has none, loaded before this returns.
    pub async fn add(&self, kind: &Kind) -> Result<(), store::Error> {
        if self.of(kind).is_some() {
            return Ok(());
        }
        let _filling = self.filling.lock().await;
        let prefix = kind.key_prefix(None);
        let cache = Arc::new(Cache::new(prefix.clone(), StoredFields::of(kind)));
        let answer = self.store.range(RangeRequest::prefix(prefix.clone())).await?;
        cache.load(objects(&cache, &answer.kvs), answer.revision);
        self.by_prefix.write().unwrap_or_else(PoisonError::into_inner).insert(prefix, cache);
        Ok(())
    }

    /// Ends a kind's cache and its watches.
    pub fn remove(&self, kind: &Kind) {
        let removed = self.by_prefix.write().unwrap_or_else(PoisonError::into_inner).remove(&kind.key_prefix(None));
        if let Some(cache) = removed {
            cache.close();
        }
    }

    /// The revision that every cache has reached.
    pub fn observed(&self) -> i64 {
        *self.observed.borrow()
    }

    /// Waits until the caches have reached `revision`.
    pub async fn wait_for(&self, revision: i64) -> Result<(), Status> {
        if self.observed() >= revision {
            return Ok(());
        }
        let mut observed = self.observed.subscribe();
        let reached = tokio::time::timeout(FRESH_TIMEOUT, observed.wait_for(|at| *at >= revision)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            _ => Err(too_large_revision(revision, self.observed())),
        }
    }

    async fn reload(&self) -> Result<i64, store::Error> {
        let _filling = self.filling.lock().await;
        let answer = self.store.range(RangeRequest::prefix(Bytes::from_static(b"/registry/"))).await?;
        let caches = self.by_prefix.read().unwrap_or_else(PoisonError::into_inner).clone();
        for cache in caches.values() {
            let from = answer.kvs.partition_point(|kv| kv.key[..] < *cache.prefix.as_bytes());
            let own = answer.kvs[from..].iter().take_while(|kv| kv.key.starts_with(cache.prefix.as_bytes()));
            let own: Vec<Arc<KeyValue>> = own.cloned().collect();
            cache.load(objects(cache, &own), answer.revision);
        }
        self.observed.send_replace(answer.revision);
        Ok(answer.revision)
    }

    /// Follows the store until it closes. A broken watch is begun anew where it broke; one that has missed
    /// compacted changes reloads, which ends the clients' watches with 410.
    pub async fn follow(self: Arc<Self>, from: i64) {
        let mut next = from + 1;
        loop {
            // Everything from the first key on: the one watch that sees every revision.
            let request = WatchRequest {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                start_revision: next,
                prev_kv: false,
                progress_notify: true,
            };
            let mut events = self.store.watch(request).await;
            let mut compacted = false;
            while let Some(answer) = events.next().await {
                match answer {
                    Ok(answer) if answer.compact_revision != 0 => compacted = true,
                    Ok(answer) => next = self.apply(answer).await.max(next),
                    Err(store::Error::Closed) => return,
                    Err(error) => tracing::warn!(%error, "the store's watch broke; starting it again"),
                }
            }
            if compacted {
                match self.reload().await {
                    Ok(revision) => next = revision + 1,
                    Err(store::Error::Closed) => return,
                    Err(error) => tracing::warn!(%error, "the watch cache could not be loaded"),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn apply(&self, answer: WatchResponse) -> i64 {
        let _filling = self.filling.lock().await;
        for event in &answer.events {
            let Some(cache) = self.holding(&event.kv.key) else { continue };
            let Some(key) = relative(&cache, &event.kv.key) else { continue };
            let current = match event.kind {
                EventKind::Delete => None,
                EventKind::Put => object(&cache, &event.kv),
            };
            cache.apply(&key, current, event.kv.mod_revision);
        }
        self.observed.send_if_modified(|at| {
            let later = answer.revision > *at;
            *at = answer.revision.max(*at);
            later
        });
        answer.revision + 1
    }

    fn holding(&self, key: &[u8]) -> Option<Arc<Cache>> {
        let key = std::str::from_utf8(key).ok()?;
        let by_prefix = self.by_prefix.read().unwrap_or_else(PoisonError::into_inner);
        let (prefix, cache) = by_prefix.range::<str, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        key.starts_with(prefix.as_str()).then(|| Arc::clone(cache))
    }
}

/// Upstream's answer to a read from a revision that does not exist yet.
/// `kubernetes/apiserver pkg/storage/errors.go: NewTooLargeResourceVersionError`.
pub fn too_large_revision(wanted: i64, current: i64) -> Status {
    let mut status = Status::timeout(format!("Too large resource version: {wanted}, current: {current}"), 1);
    if let Some(details) = &mut status.details {
        details.causes.push(machinery::status::Cause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        });
    }
    status
}

fn relative(cache: &Cache, key: &[u8]) -> Option<String> {
    let key = std::str::from_utf8(key).ok()?;
    key.strip_prefix(cache.prefix.as_str()).map(str::to_owned)
}

fn object(cache: &Cache, kv: &KeyValue) -> Option<Object> {
    let key = relative(cache, &kv.key)?;
    match Object::new(key, kv.value.clone(), kv.mod_revision, &cache.fields) {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(%error, key = %String::from_utf8_lossy(&kv.key), "a stored object cannot be read");
            None
        }
    }
}

fn objects(cache: &Cache, kvs: &[Arc<KeyValue>]) -> Vec<Object> {
    kvs.iter().filter_map(|kv| object(cache, kv)).collect()
}
