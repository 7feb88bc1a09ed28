//! The thread for everything that no answer waits for: segments in advance, snapshots, compaction, expired leases.
//! It sleeps until something is due; an idle store does nothing.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use mvcc::{Command, Revision};

use super::log::Segments;
use super::{Core, Options, snapshot, writer};
use crate::error::Error;

/// After a failure (a full disk) the next try waits this long.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Bell {
    rung: bool,
    stopped: bool,
}

#[derive(Default)]
pub(super) struct Keeper {
    bell: Mutex<Bell>,
    changed: Condvar,
}

impl Keeper {
    /// Have a look, something may be due.
    pub fn wake(&self) {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner).rung = true;
        self.changed.notify_all();
    }

    pub fn stop(&self) {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.changed.notify_all();
    }

    /// False when it is time to end.
    fn sleep(&self, most: Option<Duration>) -> bool {
        let bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |bell: &mut Bell| !bell.rung && !bell.stopped;
        let mut bell = match most {
            None => self.changed.wait_while(bell, quiet).unwrap_or_else(PoisonError::into_inner),
            Some(most) => self.changed.wait_timeout_while(bell, most, quiet).unwrap_or_else(PoisonError::into_inner).0,
        };
        bell.rung = false;
        !bell.stopped
    }
}

struct Chores {
    core: Arc<Core>,
    segments: Option<Arc<Segments>>,
    options: Options,
    /// When history is compacted next, and to which revision.
    compaction: Option<(Duration, Revision)>,
    progress: Duration,
    /// Place of the log that the last snapshot has.
    snapshot_applied: u64,
}

pub(super) fn run(core: &Arc<Core>, segments: Option<Arc<Segments>>, options: &Options, snapshot_applied: u64) {
    let now = core.now();
    let revision = core.read().revision();
    let mut chores = Chores {
        core: core.clone(),
        segments,
        options: options.clone(),
        compaction: options.compact_every.map(|every| (now + every, revision)),
        progress: now + options.progress_every,
        snapshot_applied,
    };
    loop {
        let failed = match chores.run() {
            Ok(()) => false,
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "the store's upkeep failed and will be tried again");
                true
            }
        };
        let due = chores.next_due().saturating_sub(core.now());
        let wait = if failed { due.max(RETRY) } else { due };
        if !core.keeper.sleep(Some(wait)) {
            return;
        }
    }
}

impl Chores {
    fn next_due(&self) -> Duration {
        let lease = self.core.read().next_lease_deadline();
        let compaction = self.compaction.map(|(at, _)| at);
        [lease, compaction, Some(self.progress)].into_iter().flatten().min().unwrap_or(self.progress)
    }

    fn run(&mut self) -> Result<(), Error> {
        let now = self.core.now();
        self.expire_leases(now)?;
        if self.progress <= now {
            self.progress = now + self.options.progress_every;
            self.core.report_progress();
        }
        self.compact(now)?;
        let Some(segments) = self.segments.clone() else { return Ok(()) };
        segments.release_up_to(self.snapshot_applied)?;
        segments.prepare()?;
        self.snapshot(&segments)
    }

    fn expire_leases(&self, now: Duration) -> Result<(), Error> {
        let expired = self.core.read().expired_leases(now);
        let submitted = expired.into_iter().map(|id| self.core.inbox.submit(Command::LeaseRevoke { id }));
        for answer in submitted.collect::<Result<Vec<_>, _>>()? {
            match writer::wait(answer) {
                // Somebody else was faster.
                Ok(_) | Err(Error::Mvcc(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Compacts to what was the newest revision one interval ago, so that everyone has that long to catch up.
    fn compact(&mut self, now: Duration) -> Result<(), Error> {
        let Some((at, target)) = self.compaction else { return Ok(()) };
        let Some(every) = self.options.compact_every.filter(|_| at <= now) else { return Ok(()) };
        let (revision, compacted) = {
            let state = self.core.read();
            (state.revision(), state.compacted_revision())
        };
        self.compaction = Some((now + every, revision));
        if target <= compacted {
            return Ok(());
        }
        match writer::wait(self.core.inbox.submit(Command::Compact(target))?) {
            Ok(_) | Err(Error::Mvcc(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// When the log has grown enough, and at least as much as there is to write.
    fn snapshot(&mut self, segments: &Arc<Segments>) -> Result<(), Error> {
        let sealed = segments.sealed();
        let log_bytes: u64 = sealed.iter().filter(|it| it.last_index > self.snapshot_applied).map(|it| it.bytes).sum();
        let wanted = self.options.snapshot_log_bytes.max(self.core.read().live_bytes());
        if log_bytes < wanted {
            return Ok(());
        }
        let taken = snapshot::take(|look| look(&self.core.read()));
        // Compacted meanwhile, which is rare: the next segment brings us here again.
        let Some(image) = taken else { return Ok(()) };
        snapshot::write(&segments.directory, &image)?;
        self.snapshot_applied = image.applied;
        segments.release_up_to(image.applied)
    }
}
