//! What can go wrong with a store.

use std::path::PathBuf;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is refused, in etcd's words.
    #[error(transparent)]
    Mvcc(#[from] mvcc::Error),
    /// Writes are not possible now: a full or read-only disk. Nothing was written; reads go on, and writes work again
    /// when the cause has gone.
    #[error("the store cannot write: {reason} ({})", path.display())]
    Unwritable { path: PathBuf, reason: String },
    /// The disk failed in the middle of making this write durable: it may or may not survive a restart.
    #[error("the store cannot tell whether this write is durable: {reason} ({})", path.display())]
    Unknown { path: PathBuf, reason: String },
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
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source: std::sync::Arc::new(source) }
    }
}
