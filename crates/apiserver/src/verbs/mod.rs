//! The verbs, a file each. None knows a kind by name; what differs between kinds stands in their `Kind`.

pub mod apply;
pub mod create;
pub mod delete;
pub mod get;
pub mod list;
pub mod patch;
pub mod update;
pub mod watch;
pub mod write;
