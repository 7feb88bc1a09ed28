//! Why a request is refused, in etcd's own words (etcd `api/v3rpc/rpctypes/error.go`: the texts clients match on).

use crate::types::Revision;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The revision asked for is older than the last compaction.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision { requested: Revision, current: Revision },
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// `ignore_value` or `ignore_lease` of a key that is not there.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
}
