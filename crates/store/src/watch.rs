//! Who watches what, and what each has not read yet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use mvcc::{Event, Revision, in_range};
use tokio::sync::mpsc;

use crate::api::{WatchRequest, WatchResponse, WatchStream};
use crate::error::Error;

type Answer = Result<WatchResponse, Error>;

struct Watcher {
    key: Bytes,
    range_end: Bytes,
    /// Events before this revision were reported when the watch began.
    next_revision: Revision,
    prev_kv: bool,
    progress_notify: bool,
    answers: mpsc::UnboundedSender<Answer>,
    /// Events sent and not yet read.
    unread: Arc<AtomicUsize>,
}

/// The live watches. Whoever applies changes holds them until the changes are delivered, and whoever begins a watch holds
/// them before it looks at the state; so what a reader of the state can see has been delivered once `lock` returns.
pub(crate) struct Hub {
    watchers: Mutex<Vec<Watcher>>,
    unread_events_max: usize,
}

/// The watches, held. To be taken before the state's lock, never after.
pub(crate) struct Watchers<'a> {
    list: MutexGuard<'a, Vec<Watcher>>,
    unread_events_max: usize,
}

impl Hub {
    pub fn new(unread_events_max: usize) -> Self {
        Self { watchers: Mutex::new(Vec::new()), unread_events_max }
    }

    pub fn lock(&self) -> Watchers<'_> {
        // A watcher list is whole at every step: a panic elsewhere leaves nothing half done.
        let list = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        Watchers { list, unread_events_max: self.unread_events_max }
    }
}

impl Watchers<'_> {
    /// Begins a watch: `past` are the changes from its start revision up to `current`.
    pub fn add(&mut self, request: WatchRequest, past: Vec<Event>, current: Revision) -> WatchStream {
        let (answers, stream) = mpsc::unbounded_channel();
        let unread = Arc::new(AtomicUsize::new(0));
        let watcher = Watcher {
            key: request.key,
            range_end: request.range_end,
            next_revision: request.start_revision.max(current + 1),
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            answers,
            unread: unread.clone(),
        };
        // What a watcher asked for from the past is not counted against it: it exists already, in the history.
        if !past.is_empty() {
            let seen = watcher.send(past, current, usize::MAX);
            assert!(seen, "the reader is still in this function");
            unread.store(0, Ordering::Relaxed);
        }
        self.list.push(watcher);
        reading(stream, unread)
    }

    /// Events of one or several whole revisions, the last of which is `revision`.
    pub fn deliver(&mut self, events: &[Event], revision: Revision) {
        if events.is_empty() {
            return;
        }
        let unread_events_max = self.unread_events_max;
        self.list.retain(|watcher| {
            let wanted = events.iter().filter(|event| watcher.wants(event)).cloned().collect::<Vec<_>>();
            match wanted.is_empty() {
                true => !watcher.answers.is_closed(),
                false => watcher.send(wanted, revision, unread_events_max),
            }
        });
    }

    /// Tells watches that want it, and have begun, that they have seen everything up to `revision`.
    pub fn progress(&mut self, revision: Revision) {
        self.list.retain(|watcher| match watcher.progress_notify && watcher.next_revision <= revision + 1 {
            true => watcher.answers.send(Ok(WatchResponse { revision, ..WatchResponse::default() })).is_ok(),
            false => !watcher.answers.is_closed(),
        });
    }

    /// Ends every watch.
    pub fn close(&mut self) {
        for watcher in self.list.drain(..) {
            // A reader that has gone needs no goodbye.
            drop(watcher.answers.send(Err(Error::Closed)));
        }
    }
}

impl Watcher {
    fn wants(&self, event: &Event) -> bool {
        event.kv.mod_revision >= self.next_revision && in_range(&self.key, &self.range_end, &event.kv.key)
    }

    /// False when the watch has ended: its reader has gone, or is too far behind.
    fn send(&self, mut events: Vec<Event>, revision: Revision, unread_events_max: usize) -> bool {
        let behind = self.unread.fetch_add(events.len(), Ordering::Relaxed) + events.len();
        if behind > unread_events_max {
            drop(self.answers.send(Err(Error::SlowWatcher { behind })));
            return false;
        }
        if !self.prev_kv {
            events.iter_mut().for_each(|event| event.prev_kv = None);
        }
        self.answers.send(Ok(WatchResponse { revision, events, compact_revision: 0 })).is_ok()
    }
}

fn reading(answers: mpsc::UnboundedReceiver<Answer>, unread: Arc<AtomicUsize>) -> WatchStream {
    futures::stream::unfold((answers, unread, false), |(mut answers, unread, ended)| async move {
        if ended {
            return None;
        }
        let answer = answers.recv().await?;
        let ended = answer.is_err();
        if let Ok(answer) = &answer {
            // What came from the past was never counted, hence no wrap below zero.
            let read = answer.events.len();
            let subtract = |count: usize| Some(count.saturating_sub(read));
            // The closure always answers, so the update cannot be refused.
            let _counted = unread.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract);
        }
        Some((answer, (answers, unread, ended)))
    })
    .boxed()
}

/// A watch that could not begin.
pub(crate) fn refused(answer: Answer) -> WatchStream {
    futures::stream::iter([answer]).boxed()
}
