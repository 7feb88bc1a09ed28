//! The one thread that writes: it takes what has come in meanwhile as a group, makes it durable with one sync, applies it,
//! tells the watchers and then answers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use mvcc::{Command, Response, Revision};
use tokio::sync::oneshot;

use super::log::{Appended, Log};
use super::{Core, codec};
use crate::error::Error;

/// Bytes of a group, so that a burst of large values does not make everyone wait for all of it.
const GROUP_BYTES_MAX: usize = 4 << 20;

pub(super) struct Request {
    command: Command,
    payload: Vec<u8>,
    answer: oneshot::Sender<Result<Response, Error>>,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    stopped: bool,
}

/// Requests on their way to the writer.
#[derive(Default)]
pub(super) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receiver gets the answer; dropping it does not take the command back.
    pub fn submit(&self, command: Command) -> Result<oneshot::Receiver<Result<Response, Error>>, Error> {
        // Encoded by the caller: the writer has enough to do.
        let payload = codec::encode(&command);
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.lock();
        if waiting.stopped {
            return Err(Error::Closed);
        }
        waiting.requests.push_back(Request { command, payload, answer });
        drop(waiting);
        self.arrived.notify_one();
        Ok(receiver)
    }

    /// No more requests; those that wait are still done.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.arrived.notify_all();
    }

    /// Whoever still waits is told that nothing more is done.
    fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.stopped = true;
        waiting.requests.clear();
    }

    fn next_group(&self) -> Option<Vec<Request>> {
        let mut waiting = self.lock();
        while waiting.requests.is_empty() {
            if waiting.stopped {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(request) = waiting.requests.front() {
            bytes += request.payload.len();
            if !group.is_empty() && bytes > GROUP_BYTES_MAX {
                break;
            }
            group.extend(waiting.requests.pop_front());
        }
        Some(group)
    }
}

/// However the writer ends, also by a broken invariant: nobody may wait for it any more.
struct AtEnd<'a>(&'a Core);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.inbox.abandon();
        self.0.hub.lock().close();
    }
}

/// Runs until the inbox is stopped. Without a log nothing is durable.
pub(super) fn run(core: &Arc<Core>, mut log: Option<Log>) {
    let _at_end = AtEnd(core);
    while let Some(mut group) = core.inbox.next_group() {
        while !group.is_empty() {
            let first_index = core.read().applied() + 1;
            match &mut log {
                None => apply(core, first_index, std::mem::take(&mut group)),
                Some(log) => {
                    let payloads: Vec<Vec<u8>> =
                        group.iter_mut().map(|request| std::mem::take(&mut request.payload)).collect();
                    match log.append(first_index, &payloads) {
                        Ok(Appended { count, took, rotated }) => {
                            core.set_write_error(None);
                            core.note_sync(took);
                            let mut rest = group.split_off(count);
                            for (request, payload) in rest.iter_mut().zip(payloads.into_iter().skip(count)) {
                                request.payload = payload;
                            }
                            apply(core, first_index, group);
                            group = rest;
                            if rotated {
                                core.keeper.wake();
                            }
                        }
                        Err(error) => {
                            core.set_write_error(Some(error.to_string()));
                            refuse(std::mem::take(&mut group), &error);
                        }
                    }
                }
            }
        }
    }
}

fn refuse(group: Vec<Request>, error: &Error) {
    for request in group {
        // Whoever asked may have gone.
        drop(request.answer.send(Err(error.clone())));
    }
}

fn apply(core: &Core, first_index: u64, group: Vec<Request>) {
    let now = core.now();
    let mut events = Vec::new();
    let mut answers = Vec::with_capacity(group.len());
    let mut leases_changed = false;
    let mut watchers = core.hub.lock();
    let revision: Revision = {
        let mut state = core.write();
        for (index, request) in (first_index..).zip(group) {
            let effects = state.apply(index, &request.command, now);
            events.extend(effects.events);
            leases_changed |= matches!(request.command, Command::LeaseGrant { .. });
            answers.push((request.answer, effects.result));
        }
        state.revision()
    };
    watchers.deliver(&events, revision);
    drop(watchers);
    for (answer, result) in answers {
        drop(answer.send(result.map_err(Error::from)));
    }
    if leases_changed {
        core.keeper.wake();
    }
}

/// Waits for an answer outside of any runtime.
pub(super) fn wait(receiver: oneshot::Receiver<Result<Response, Error>>) -> Result<Response, Error> {
    receiver.blocking_recv().unwrap_or(Err(Error::Closed))
}
