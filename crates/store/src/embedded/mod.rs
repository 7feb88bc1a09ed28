//! The embedded engine. A write goes: caller -> `writer.rs` (groups) -> `log.rs` (one sync a group) -> the state machine
//! of `mvcc` -> watchers -> answer. Reads look at the state and wait for nobody. `keeper.rs` does what no answer waits for;
//! `recovery.rs` is the way back after a crash.

mod codec;
mod directory;
mod frame;
mod keeper;
mod log;
mod recovery;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mvcc::{Command, LeaseId, Mvcc, RangeRequest, RangeResponse, Response, Revision, Txn, TxnResponse};

use crate::api::{LeaseState, Status, Store, WatchRequest, WatchResponse, WatchStream};
use crate::error::Error;
use crate::watch::{Hub, refused};

/// A sync that takes this long is worth a word (etcd `server/storage/wal/wal.go`: warnSyncDuration).
pub const SLOW_SYNC: Duration = Duration::from_secs(1);

/// Told how long each sync of the log has taken.
pub type OnSync = Arc<dyn Fn(Duration) + Send + Sync>;

/// How an embedded store behaves.
#[derive(Clone)]
pub struct Options {
    /// How often history is compacted to what it was one interval ago; `None` never does.
    pub compact_every: Option<Duration>,
    /// Events a watcher may leave unread before it is ended.
    pub unread_events_max: usize,
    /// How often idle watches that want it are told how far they are.
    pub progress_every: Duration,
    /// Size of a segment of the log.
    pub segment_bytes: u64,
    /// Full segments of this size together are exchanged for a snapshot.
    pub snapshot_log_bytes: u64,
    pub on_sync: Option<OnSync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compact_every: Some(Duration::from_secs(300)),
            unread_events_max: 100_000,
            progress_every: Duration::from_secs(600),
            segment_bytes: 8 << 20,
            snapshot_log_bytes: 32 << 20,
            on_sync: None,
        }
    }
}

struct Core {
    state: RwLock<Mvcc>,
    hub: Hub,
    inbox: writer::Inbox,
    keeper: keeper::Keeper,
    epoch: Instant,
    write_error: Mutex<Option<String>>,
    on_sync: Option<OnSync>,
}

impl Core {
    fn read(&self) -> RwLockReadGuard<'_, Mvcc> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Mvcc> {
        // A panic inside the state machine ends the writer, which is the only one that changes it.
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn report_progress(&self) {
        let mut watchers = self.hub.lock();
        let revision = self.read().revision();
        watchers.progress(revision);
    }

    fn set_write_error(&self, error: Option<String>) {
        let mut current = self.write_error.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != error {
            match &error {
                Some(error) => tracing::error!(%error, "the store refuses writes"),
                None => tracing::info!("the store writes again"),
            }
            *current = error;
        }
    }

    fn note_sync(&self, took: Duration) {
        if took >= SLOW_SYNC {
            tracing::warn!(?took, "slow sync of the store's log");
        }
        if let Some(tell) = &self.on_sync {
            tell(took);
        }
    }
}

/// Ends the threads when the last handle goes.
struct Threads {
    core: Arc<Core>,
    segments: Option<Arc<log::Segments>>,
    handles: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.core.keeper.stop();
        self.core.inbox.stop();
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
    }
}

/// A store in this process. Clones are handles of the same one; it is closed when the last has gone.
#[derive(Clone)]
pub struct Embedded {
    core: Arc<Core>,
    threads: Arc<Threads>,
}

impl Embedded {
    /// Without a disk: gone with the process. For tests.
    pub fn in_memory(options: Options) -> Self {
        match Self::start(Mvcc::new(), None, options) {
            Ok(store) => store,
            Err(error) => unreachable!("without files only a process that can start no thread fails here: {error}"),
        }
    }

    /// Opens or makes the store in a directory, which no other process may be using.
    pub async fn open(directory: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        let directory = directory.into();
        let opening = tokio::task::spawn_blocking(move || Self::open_blocking(directory, options));
        opening.await.map_err(|_| Error::Closed)?
    }

    /// As `open`, on the caller's thread.
    pub fn open_blocking(directory: PathBuf, options: Options) -> Result<Self, Error> {
        let recovery::Recovered { state, log, segments, snapshot_applied } =
            recovery::recover(directory, options.segment_bytes)?;
        Self::start(state, Some((log, segments, snapshot_applied)), options)
    }

    fn start(state: Mvcc, disk: Option<(log::Log, Arc<log::Segments>, u64)>, options: Options) -> Result<Self, Error> {
        let (log, segments, snapshot_applied) = match disk {
            Some((log, segments, snapshot_applied)) => (Some(log), Some(segments), snapshot_applied),
            None => (None, None, 0),
        };
        let core = Arc::new(Core {
            hub: Hub::new(options.unread_events_max),
            state: RwLock::new(state),
            inbox: writer::Inbox::default(),
            keeper: keeper::Keeper::default(),
            epoch: Instant::now(),
            write_error: Mutex::new(None),
            on_sync: options.on_sync.clone(),
        });
        let mut threads = Threads { core: core.clone(), segments: segments.clone(), handles: Vec::new() };
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_string());
            thread.spawn(body).map_err(Error::io("start thread", name))
        };
        let writing = core.clone();
        threads.handles.push(spawn("store-writer", Box::new(move || writer::run(&writing, log)))?);
        let keeping = core.clone();
        let keep = move || keeper::run(&keeping, segments, &options, snapshot_applied);
        threads.handles.push(spawn("store-keeper", Box::new(keep))?);
        Ok(Self { core, threads: Arc::new(threads) })
    }

    async fn commit(&self, command: Command) -> Result<Response, Error> {
        self.core.inbox.submit(command)?.await.unwrap_or(Err(Error::Closed))
    }
}

/// As in etcd an id that nobody has had before, so that a late renewal never meets somebody else's lease.
fn random_lease_id() -> LeaseId {
    let random = std::hash::RandomState::new().build_hasher().finish();
    (random >> 1).max(1).cast_signed()
}

#[async_trait]
impl Store for Embedded {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        Ok(self.core.read().range(&request)?)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        if txn.is_read_only() {
            return Ok(self.core.read().read(&txn)?);
        }
        // What can never be done needs no place in the log.
        txn.check()?;
        match self.commit(Command::Txn(txn)).await? {
            Response::Txn(answer) => Ok(answer),
            other => unreachable!("a transaction is answered as one, not by {other:?}"),
        }
    }

    async fn watch(&self, request: WatchRequest) -> WatchStream {
        // Held until the watch is in the list, so that nothing is applied between the past and the future.
        let mut watchers = self.core.hub.lock();
        let state = self.core.read();
        let past = match request.start_revision {
            0 => Ok(Vec::new()),
            start => state.events_since(&request.key, &request.range_end, start),
        };
        match past {
            Ok(past) => watchers.add(request, past, state.revision()),
            Err(_) => refused(Ok(WatchResponse {
                revision: state.revision(),
                events: Vec::new(),
                compact_revision: state.compacted_revision(),
            })),
        }
    }

    async fn request_progress(&self) -> Result<(), Error> {
        self.core.report_progress();
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.commit(Command::Compact(revision)).await.map(|_| ())
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseId, Error> {
        let id = if id == 0 { random_lease_id() } else { id };
        self.commit(Command::LeaseGrant { id, ttl }).await.map(|_| id)
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Error> {
        self.commit(Command::LeaseRevoke { id }).await.map(|_| ())
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        let now = self.core.now();
        Ok(self.core.write().lease_keep_alive(id, now)?)
    }

    async fn leases(&self) -> Result<Vec<LeaseState>, Error> {
        let now = self.core.now();
        let state = self.core.read();
        let leases = state.leases().map(|lease| LeaseState {
            id: lease.id,
            ttl: lease.ttl,
            left: lease.deadline.saturating_sub(now),
            keys: lease.keys.iter().cloned().collect(),
        });
        Ok(leases.collect())
    }

    async fn status(&self) -> Result<Status, Error> {
        let disk_bytes = match &self.threads.segments {
            Some(segments) => segments.directory.bytes_on_disk()?,
            None => 0,
        };
        let write_error = self.core.write_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = self.core.read();
        Ok(Status { revision: state.revision(), live_bytes: state.live_bytes(), disk_bytes, write_error })
    }
}
