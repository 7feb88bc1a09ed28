//! The store as its users see it: etcd's operations, one trait, held as `Arc<dyn Store>`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use mvcc::{
    DeleteRequest, Event, KeyValue, LeaseId, Op, OpResponse, PutRequest, RangeRequest, RangeResponse, Revision, Txn,
    TxnResponse, prefix_end,
};

use crate::error::Error;

#[derive(Clone, Debug, Default)]
pub struct WatchRequest {
    pub key: Bytes,
    /// As in a range: empty for one key, a zero byte for everything from `key` on.
    pub range_end: Bytes,
    /// The first revision to report; 0 means only what happens from now on.
    pub start_revision: Revision,
    /// Events carry the version before.
    pub prev_kv: bool,
    /// Now and then, and when asked by [`Store::request_progress`], an answer without events says how far this watch is.
    pub progress_notify: bool,
}

impl WatchRequest {
    /// Every key that starts with `prefix`, from `start_revision` on.
    pub fn prefix(prefix: impl Into<Bytes>, start_revision: Revision) -> Self {
        let key = prefix.into();
        Self { range_end: prefix_end(&key), key, start_revision, prev_kv: true, progress_notify: true }
    }
}

/// All of a revision's events that a watch wants come in one answer; an answer may hold several revisions.
#[derive(Clone, Debug, Default)]
pub struct WatchResponse {
    /// Everything up to this revision has been reported.
    pub revision: Revision,
    pub events: Vec<Event>,
    /// Not 0: the start revision is compacted away, this is the oldest there is, and the watch has ended.
    pub compact_revision: Revision,
}

pub type WatchStream = BoxStream<'static, Result<WatchResponse, Error>>;

/// A lease as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    pub id: LeaseId,
    pub ttl: Duration,
    /// What is left of its time.
    pub left: Duration,
    pub keys: Vec<Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub revision: Revision,
    /// Bytes of the live keys and values; an etcd's are those of its file that are in use.
    pub live_bytes: u64,
    /// Bytes on disk: log and snapshots, or an etcd's file.
    pub disk_bytes: u64,
    /// Why writes fail at the moment, if they do.
    pub write_error: Option<String>,
}

/// etcd's semantics. A write is durable when its answer comes; an error of a write says that it was not done, except
/// [`Error::Unknown`], after which it may or may not have been.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error>;

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error>;

    /// The watch stands when this is done: a change answered after that is seen. Dropping the stream ends it. A reader
    /// that falls too far behind may get [`Error::SlowWatcher`], and the stream ends.
    async fn watch(&self, request: WatchRequest) -> WatchStream;

    /// Every watch with `progress_notify` that has begun reports, in order with its events, that it has reached the store's
    /// revision of now, or a later one.
    async fn request_progress(&self) -> Result<(), Error>;

    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// `id` is the caller's choice; 0 leaves it to the store.
    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseId, Error>;

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Error>;

    /// The lease's whole time to live, which starts anew.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, Error>;

    /// Every lease there is.
    async fn leases(&self) -> Result<Vec<LeaseState>, Error>;

    async fn status(&self) -> Result<Status, Error>;

    async fn get(&self, key: &[u8]) -> Result<Option<Arc<KeyValue>>, Error> {
        let answer = self.range(RangeRequest::one(key.to_vec())).await?;
        Ok(answer.kvs.into_iter().next())
    }

    /// Writes whatever was there before. The answer is the new `mod_revision`.
    async fn put(&self, key: &[u8], value: Bytes) -> Result<Revision, Error> {
        let put = PutRequest::new(key.to_vec(), value);
        Ok(self.txn(Txn::of(Op::Put(put))).await?.revision)
    }

    /// Whether the key was there.
    async fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        let answer = self.txn(Txn::of(Op::Delete(DeleteRequest::one(key.to_vec())))).await?;
        Ok(matches!(answer.responses.first(), Some(OpResponse::Delete { deleted: 1, .. })))
    }
}
