//! Requests, answers and events, named as in etcd's `rpc.proto` and `kv.proto`.

use std::sync::Arc;

use bytes::Bytes;

use crate::keys::prefix_end;

/// A main revision: one per transaction that changes anything. An empty store is at revision 1.
pub type Revision = i64;
/// Id of a lease; 0 means none.
pub type LeaseId = i64;

/// One version of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision at which the key came to be, this time round.
    pub create_revision: Revision,
    /// Revision of this version.
    pub mod_revision: Revision,
    /// 1 at creation, one more with each put.
    pub version: i64,
    pub lease: LeaseId,
}

/// Which keys: `key` alone when `range_end` is empty, every key from `key` on when it is a single zero byte, otherwise
/// the half-open interval `[key, range_end)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    /// At most so many keys; 0 means all.
    pub limit: usize,
    /// As of this revision; 0 means now.
    pub revision: Revision,
    pub keys_only: bool,
    pub count_only: bool,
}

impl RangeRequest {
    /// One key, now.
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// Every key that starts with `prefix`, now.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key = prefix.into();
        Self { range_end: prefix_end(&key), key, ..Self::default() }
    }

    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }

    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The store's revision when it answered (etcd's header), not the revision that was asked for.
    pub revision: Revision,
    /// In key order.
    pub kvs: Vec<Arc<KeyValue>>,
    /// `limit` cut the answer short.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: LeaseId,
    pub prev_kv: bool,
    /// Keep the value, set the lease.
    pub ignore_value: bool,
    /// Keep the lease, set the value.
    pub ignore_lease: bool,
}

impl PutRequest {
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), ..Self::default() }
    }

    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = lease;
        self
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    pub prev_kv: bool,
}

impl DeleteRequest {
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key = prefix.into();
        Self { range_end: prefix_end(&key), key, ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// What is compared, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

/// One condition. Over a range it must hold for every key in it; an absent key counts as all zeroes, and never has a
/// value to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    pub range_end: Bytes,
    pub result: CompareResult,
    pub target: CompareTarget,
}

impl Compare {
    /// The key's last change was at this revision; 0 means that there is no such key.
    pub fn mod_revision_is(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self {
            key: key.into(),
            range_end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::Mod(revision),
        }
    }

    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self::mod_revision_is(key, 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRequest),
    Txn(Txn),
}

/// `success` when every comparison holds, else `failure`; all of it in one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

impl Txn {
    /// Unconditionally this one operation.
    pub fn of(op: Op) -> Self {
        Self { success: vec![op], ..Self::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    Range(RangeResponse),
    Put { prev_kv: Option<Arc<KeyValue>> },
    Delete { deleted: usize, prev_kvs: Vec<Arc<KeyValue>> },
    Txn(TxnResponse),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// The store's revision after the transaction: the `mod_revision` of what it wrote.
    pub revision: Revision,
    pub succeeded: bool,
    /// One for each operation of the branch that ran.
    pub responses: Vec<OpResponse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// A change of one key. Of a deletion `kv` has the key and the revision of the deletion only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    pub kv: Arc<KeyValue>,
    /// The version before, unless there was none or it has been compacted.
    pub prev_kv: Option<Arc<KeyValue>>,
}

impl Event {
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}
