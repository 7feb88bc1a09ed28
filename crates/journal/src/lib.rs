//! The record types of the flight recorder and their causes. It knows no file and no clock: the ring file lives in
//! `store`, times are arguments.
use jiff::Timestamp;

/// Place of a record in the node's journal: strictly growing, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct RecordId(pub u64);

/// Where records are written. The ring file implements it; tests use a vector.
pub trait Journal: Send + Sync + 'static {
    /// Writes one record, durable enough to survive the process, before the act that it explains.
    fn write(&self, at: Timestamp, record: Record) -> RecordId;
}

/// What happened.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Record {}
