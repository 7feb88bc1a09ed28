//! etcd's data model as a pure state machine: revisions, ranges, transactions, leases, compaction and the events that
//! watchers see. It knows no file, clock, network or Kubernetes; `store` feeds it from a log and answers after the flush.
//!
//! Start at [`Mvcc::apply`] for what changes and [`Mvcc::range`] for what is read. Requests and answers are in
//! [`types`]; what a key remembers is in `history.rs`.

mod error;
mod history;
mod keys;
mod leases;
#[cfg(test)]
mod model_tests;
mod snapshot;
mod state;
mod txn;
pub mod types;

pub use error::Error;
pub use keys::{in_range, prefix_end};
pub use leases::Lease;
pub use snapshot::Image;
pub use state::{Command, Effects, Mvcc, Response};
pub use types::*;
