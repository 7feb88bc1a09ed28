//! What can go wrong with a store.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is refused, in etcd's words.
    #[error(transparent)]
    Mvcc(#[from] mvcc::Error),
    /// Writes are not possible now: a full or read-only disk. Nothing was written; reads go on, and writes work again
    /// when the cause has gone. `place` is a file, or the address of an etcd.
    #[error("the store cannot write: {reason} ({place})")]
    Unwritable { place: String, reason: String },
    /// The disk, or the connection to an etcd, failed in the middle of this write: it may or may not be there later.
    #[error("the store cannot tell whether this write is done: {reason} ({place})")]
    Unknown { place: String, reason: String },
    /// An etcd does not answer, or has no quorum. Nothing was done.
    #[error("etcd does not answer: {reason} ({place})")]
    Unavailable { place: String, reason: String },
    /// An etcd refuses the request for a reason that our own store does not have, in its words. Nothing was done.
    #[error("{reason}")]
    Refused { reason: String },
    /// An address of an etcd, or a file that is to be shown to it, which cannot be used.
    #[error("{what}: {reason}")]
    Unusable { what: String, reason: String },
    #[error("the watch fell {behind} events behind and was ended; list again and watch from there")]
    SlowWatcher { behind: usize },
    #[error("the store is closed")]
    Closed,
    #[error("{} is used by another process (pid {pid}); stop it first or choose another data directory", path.display())]
    Locked { path: PathBuf, pid: String },
    #[error("{}: corrupt at offset {offset}: {reason}; restore the directory from a backup, nothing was changed", path.display())]
    Corrupt { path: PathBuf, offset: u64, reason: String },
    #[error("{action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::sync::Arc<std::io::Error> },
}

impl Error {
    pub(crate) fn unwritable(path: &Path, reason: impl ToString) -> Self {
        Self::Unwritable { place: path.display().to_string(), reason: reason.to_string() }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: std::sync::Arc::new(source) }
    }
}
