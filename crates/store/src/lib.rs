//! Where a cluster's data lives: the [`Store`] trait with etcd's semantics, the embedded engine behind it
//! ([`Embedded`]: segmented log, group commit, snapshots, recovery), the client of an etcd elsewhere ([`etcd::Client`]), and
//! the ring file of the node's journal ([`journal_ring::JournalRing`]). It knows bytes and revisions, and no Kubernetes.
//!
//! Start at `api.rs` for what callers see, at `embedded/mod.rs` for how a write becomes durable, and at `etcd/mod.rs` for
//! etcd's protocol.

mod api;
mod embedded;
mod error;
pub mod etcd;
pub mod journal_ring;
mod lock;
mod watch;

pub use api::{LeaseState, Status, Store, WatchRequest, WatchResponse, WatchStream};
pub use embedded::{Embedded, OnSync, Options, SLOW_SYNC};
pub use error::Error;
pub use journal_ring::JournalRing;
pub use lock::DirectoryLock;
pub use mvcc;
