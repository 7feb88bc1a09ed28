//! Objects in the store: kinds to keys, objects to bytes, writes as compare-and-swap on the key's revision.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use std::time::Duration;

use jiff::Timestamp;
use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::gvk::GroupResource;
use machinery::status::Status;
use mvcc::{Compare, DeleteRequest, Op, OpResponse, PutRequest, RangeRequest, Txn};
use serde_json::Value;
use store::Store;

use crate::conversion;
use crate::server::Inner;

/// An object as read: decoded, in the asked kind's version, with its resourceVersion.
#[derive(Clone, Debug)]
pub struct Stored {
    pub value: Value,
    pub revision: i64,
}

/// Another object's new version, which is stored together with the one that is written.
pub struct Replacement {
    pub key: String,
    /// The version that it replaces.
    pub revision: i64,
    pub encoded: Bytes,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// It was done, at this revision.
    Done(i64),
    /// The object is of another version by now, or there is one where there was to be none.
    Overtaken,
    /// One of those beside it is of another version by now, or what was also asked for does not hold.
    BesideOvertaken,
}

/// The store, seen as objects.
pub struct Registry {
    pub store: Arc<dyn Store>,
    /// Whose webhooks convert objects; set once there is a server.
    pub server: OnceLock<Weak<Inner>>,
    /// One lease serves all objects of a time to live that are written within a minute.
    leases: Mutex<HashMap<u32, (i64, Timestamp)>>,
}

/// The resource as errors name it.
pub fn group_resource(kind: &Kind) -> GroupResource {
    GroupResource::new(kind.group.as_ref(), kind.names.plural.as_ref())
}

/// A store failure as the client sees it.
pub fn store_failed(error: store::Error) -> Status {
    Status::internal(error)
}

impl Registry {
    pub fn new(store: Arc<dyn Store>) -> Registry {
        Registry { store, server: OnceLock::new(), leases: Mutex::default() }
    }

    /// The store's revision now, which every earlier acknowledged write is at or before.
    pub async fn revision(&self) -> Result<i64, Status> {
        let nothing = RangeRequest { count_only: true, ..RangeRequest::one(Bytes::from_static(b"/registry/\0")) };
        Ok(self.store.range(nothing).await.map_err(store_failed)?.revision)
    }

    pub async fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Stored>, Status> {
        let answer = self.store.range(RangeRequest::one(kind.key(namespace, name))).await.map_err(store_failed)?;
        let Some(kv) = answer.kvs.first() else { return Ok(None) };
        let value =
            crate::cache::decode(&crate::cache::encoded(crate::cache::as_json(kv.value.clone()), kv.mod_revision));
        let value = match self.converting(kind) {
            Some(server) => conversion::one(&server, kind, value).await?,
            None => from_storage(kind, value)?,
        };
        Ok(Some(Stored { value, revision: kv.mod_revision }))
    }

    /// Replaces the version of `revision`; `None` when somebody else was first.
    pub async fn update(&self, kind: &Kind, key: &str, value: &Value, revision: i64) -> Result<Option<i64>, Status> {
        let encoded = self.encoded(kind, value).await?;
        Ok(match self.put(kind, key, encoded, revision, &[], None).await? {
            Put::Done(revision) => Some(revision),
            Put::Overtaken | Put::BesideOvertaken => None,
        })
    }

    /// The stored form of an object, for which a webhook may be asked.
    pub async fn encoded(&self, kind: &Kind, value: &Value) -> Result<Bytes, Status> {
        match self.converting(kind) {
            Some(server) => encode(kind, &conversion::to_storage(&server, kind, value.clone()).await?),
            None => encode(kind, value),
        }
    }

    /// Replaces the version of `revision`, 0 for a new object, and does what is to be done with it, all or nothing, and
    /// nothing unless `also` holds.
    pub async fn put(
        &self,
        kind: &Kind,
        key: &str,
        encoded: Bytes,
        revision: i64,
        beside: &[Replacement],
        also: Option<&Compare>,
    ) -> Result<Put, Status> {
        let lease = self.lease(kind).await?;
        let mut compare = vec![Compare::mod_revision_is(key.to_owned(), revision)];
        let mut success = vec![Op::Put(PutRequest::new(key.to_owned(), encoded).lease(lease))];
        for other in beside {
            compare.push(Compare::mod_revision_is(other.key.clone(), other.revision));
            success.push(Op::Put(PutRequest::new(other.key.clone(), other.encoded.clone())));
        }
        compare.extend(also.cloned());
        let there = Op::Range(RangeRequest { keys_only: true, ..RangeRequest::one(key.to_owned()) });
        let answer = self.store.txn(Txn { compare, success, failure: vec![there] }).await.map_err(store_failed)?;
        if answer.succeeded {
            return Ok(Put::Done(answer.revision));
        }
        let is = match answer.responses.first() {
            Some(OpResponse::Range(range)) => range.kvs.first().map_or(0, |kv| kv.mod_revision),
            _ => 0,
        };
        Ok(if is == revision { Put::BesideOvertaken } else { Put::Overtaken })
    }

    /// Deletes the version of `revision`; `None` when somebody else was first, otherwise the deletion's revision.
    pub async fn delete(&self, key: &str, revision: i64) -> Result<Option<i64>, Status> {
        let txn = Txn {
            compare: vec![Compare::mod_revision_is(key.to_owned(), revision)],
            success: vec![Op::Delete(DeleteRequest::one(key.to_owned()))],
            failure: Vec::new(),
        };
        let answer = self.store.txn(txn).await.map_err(store_failed)?;
        let deleted = matches!(answer.responses.first(), Some(OpResponse::Delete { deleted: 1, .. }));
        Ok((answer.succeeded && deleted).then_some(answer.revision))
    }

    /// The server whose webhook is to be asked about a kind's versions, if one is.
    fn converting(&self, kind: &Kind) -> Option<Arc<Inner>> {
        kind.webhook_conversion.as_ref().and_then(|_| self.server.get()?.upgrade())
    }

    /// `kubernetes/apiserver pkg/storage/etcd3/lease_manager.go: leases are shared by the objects of one minute`.
    async fn lease(&self, kind: &Kind) -> Result<i64, Status> {
        let Some(ttl) = kind.ttl_seconds else { return Ok(0) };
        let now = Timestamp::now();
        let known = self.leases.lock().unwrap_or_else(PoisonError::into_inner).get(&ttl).copied();
        if let Some((lease, granted)) = known
            && now.duration_since(granted).as_secs() < 60
        {
            return Ok(lease);
        }
        let lease = self.store.lease_grant(0, Duration::from_secs(u64::from(ttl) + 60)).await.map_err(store_failed)?;
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).insert(ttl, (lease, now));
        Ok(lease)
    }
}

/// The stored form: the storage version's JSON without a resourceVersion.
pub fn encode(kind: &Kind, value: &Value) -> Result<Bytes, Status> {
    let mut stored = value.clone();
    if let Some(metadata) = stored.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("selfLink");
    }
    kind.to_storage(&mut stored);
    stored["kind"] = Value::String(kind.names.kind.to_string());
    serde_json::to_vec(&stored).map(Bytes::from).map_err(Status::internal)
}

/// Converts a decoded object from the version it is stored in to the kind's own. A custom one is as the schema has it
/// today: pruned and defaulted.
pub fn from_storage(kind: &Kind, mut value: Value) -> Result<Value, Status> {
    if !value.is_object() {
        return Err(Status::internal(format!("unable to decode a stored {}", kind.names.kind)));
    }
    kind.from_storage(&mut value);
    if let SchemaSource::Custom(schema) = &kind.schema {
        schema.prune(&mut value);
        kind.default(&mut value);
    }
    Ok(value)
}

/// Whether stored bytes can be sent as they stand.
pub fn sent_as_stored(kind: &Kind) -> bool {
    matches!(kind.schema, SchemaSource::Facts(_))
        && kind.conversion.is_none()
        && kind.storage_version.0 == kind.group
        && kind.storage_version.1 == kind.version
}
