//! The state machine: commands in, answers and events out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::history::History;
use crate::keys::{bounds, in_range};
use crate::leases::{Lease, Leases};
use crate::types::*;

/// What the log carries. Replaying the same commands in the same order gives the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Txn(Txn),
    /// Forget what only reads before this revision could see.
    Compact(Revision),
    LeaseGrant {
        id: LeaseId,
        ttl: Duration,
    },
    LeaseRevoke {
        id: LeaseId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Txn(TxnResponse),
    Compact { revision: Revision },
    LeaseGrant { id: LeaseId, ttl: Duration },
    LeaseRevoke { revision: Revision },
}

/// What a command led to.
#[derive(Clone, Debug)]
pub struct Effects {
    pub result: Result<Response, Error>,
    /// In the order in which watchers see them.
    pub events: Vec<Event>,
}

/// All keys, their history since the last compaction, and the leases.
#[derive(Clone, Debug)]
pub struct Mvcc {
    pub(crate) revision: Revision,
    /// Reads before this revision are refused; 0 before the first compaction.
    pub(crate) compacted: Revision,
    /// Number of commands applied so far: the log's position.
    pub(crate) applied: u64,
    pub(crate) index: BTreeMap<Bytes, History>,
    /// Every change since (and at) `compacted`, oldest first.
    pub(crate) events: VecDeque<Event>,
    pub(crate) leases: Leases,
    /// Bytes of keys and values of the live versions.
    pub(crate) live_bytes: u64,
}

impl Default for Mvcc {
    fn default() -> Self {
        Self {
            revision: 1,
            compacted: 0,
            applied: 0,
            index: BTreeMap::new(),
            events: VecDeque::new(),
            leases: Leases::default(),
            live_bytes: 0,
        }
    }
}

impl Mvcc {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn compacted_revision(&self) -> Revision {
        self.compacted
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Applies the command at position `index` of the log, which must be the one after the last. `now` is monotonic time
    /// of the caller's choice; only leases look at it.
    pub fn apply(&mut self, index: u64, command: &Command, now: Duration) -> Effects {
        assert_eq!(index, self.applied + 1, "commands are applied in the log's order, each once");
        self.applied = index;
        let before = self.revision;
        let mut events = Vec::new();
        let result = match command {
            Command::Txn(txn) => self.txn(txn, &mut events).map(Response::Txn),
            Command::Compact(revision) => {
                self.compact(*revision).map(|()| Response::Compact { revision: self.revision })
            }
            Command::LeaseGrant { id, ttl } => {
                self.leases.grant(*id, *ttl, now).map(|()| Response::LeaseGrant { id: *id, ttl: *ttl })
            }
            Command::LeaseRevoke { id } => {
                self.lease_revoke(*id, &mut events).map(|()| Response::LeaseRevoke { revision: self.revision })
            }
        };
        assert_eq!(self.revision, before + i64::from(!events.is_empty()), "a command takes one revision if it changes");
        self.events.extend(events.iter().cloned());
        Effects { result, events }
    }

    /// Reads need no command. Refuses revisions that are compacted or not there yet.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        self.check_readable(request, self.revision)?;
        Ok(self.range_up_to(request, self.revision))
    }

    pub(crate) fn check_readable(&self, request: &RangeRequest, current: Revision) -> Result<(), Error> {
        if request.key.is_empty() && request.range_end.is_empty() {
            return Err(Error::EmptyKey);
        }
        if request.revision > current {
            return Err(Error::FutureRevision { requested: request.revision, current });
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(Error::Compacted { requested: request.revision, compacted: self.compacted });
        }
        Ok(())
    }

    /// `current` is the newest revision the reader may see: inside a transaction that is the one being made.
    pub(crate) fn range_up_to(&self, request: &RangeRequest, current: Revision) -> RangeResponse {
        let at = if request.revision > 0 { request.revision } else { current };
        let mut answer = RangeResponse { revision: current, ..RangeResponse::default() };
        let Some(bounds) = bounds(&request.key, &request.range_end) else { return answer };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        for history in self.index.range::<[u8], _>(bounds).map(|(_, history)| history) {
            let visible = if at >= current { history.live() } else { history.at(at) };
            let Some(kv) = visible else { continue };
            answer.count += 1;
            if request.count_only || answer.kvs.len() >= limit {
                continue;
            }
            answer.kvs.push(match request.keys_only {
                true => Arc::new(KeyValue { value: Bytes::new(), ..KeyValue::clone(kv) }),
                false => kv.clone(),
            });
        }
        answer.more = !request.count_only && answer.count > answer.kvs.len();
        answer
    }

    /// The changes in a range from `start` on, for a watcher that begins in the past.
    pub fn events_since(&self, key: &[u8], range_end: &[u8], start: Revision) -> Result<Vec<Event>, Error> {
        if start < self.compacted {
            return Err(Error::Compacted { requested: start, compacted: self.compacted });
        }
        let first = self.events.partition_point(|event| event.kv.mod_revision < start);
        let wanted = self.events.range(first..).filter(|event| in_range(key, range_end, &event.kv.key));
        Ok(wanted.cloned().collect())
    }

    pub(crate) fn put(&mut self, kv: KeyValue, events: &mut Vec<Event>) -> Option<Arc<KeyValue>> {
        let kv = Arc::new(kv);
        self.live_bytes += (kv.key.len() + kv.value.len()) as u64;
        let before = match self.index.get_mut(&kv.key) {
            None => {
                self.index.insert(kv.key.clone(), History::new(kv.clone()));
                None
            }
            Some(history) => {
                let before = history.live().cloned();
                history.put(kv.clone());
                before
            }
        };
        if let Some(before) = &before {
            self.live_bytes -= (before.key.len() + before.value.len()) as u64;
        }
        let lease_before = before.as_ref().map_or(0, |before| before.lease);
        if lease_before != kv.lease {
            self.leases.detach(lease_before, &kv.key);
            self.leases.attach(kv.lease, kv.key.clone());
        }
        events.push(Event { kind: EventKind::Put, kv, prev_kv: before.clone() });
        before
    }

    /// Deletes a key if it is there.
    pub(crate) fn delete(&mut self, key: &[u8], at: Revision, events: &mut Vec<Event>) -> Option<Arc<KeyValue>> {
        let history = self.index.get_mut(key)?;
        let before = history.live()?.clone();
        history.delete(at);
        self.live_bytes -= (before.key.len() + before.value.len()) as u64;
        self.leases.detach(before.lease, key);
        let kv = Arc::new(KeyValue { key: before.key.clone(), mod_revision: at, ..KeyValue::default() });
        events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(before.clone()) });
        Some(before)
    }

    pub(crate) fn live(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.index.get(key)?.live()
    }

    /// Costs what has changed since the last compaction, not what there is: a key without a change has nothing to forget.
    fn compact(&mut self, revision: Revision) -> Result<(), Error> {
        if revision > self.revision {
            return Err(Error::FutureRevision { requested: revision, current: self.revision });
        }
        if revision <= self.compacted {
            return Err(Error::Compacted { requested: revision, compacted: self.compacted });
        }
        self.compacted = revision;
        while let Some(event) = self.events.front()
            && event.kv.mod_revision < revision
        {
            let key = event.kv.key.clone();
            self.events.pop_front();
            self.compact_key(&key, revision);
        }
        // A watcher may still start at the revision itself, but what was before it is gone.
        let at_revision = self.events.partition_point(|event| event.kv.mod_revision <= revision);
        for place in 0..at_revision {
            self.events[place].prev_kv = None;
            let key = self.events[place].kv.key.clone();
            self.compact_key(&key, revision);
        }
        Ok(())
    }

    fn compact_key(&mut self, key: &[u8], revision: Revision) {
        let empty = self.index.get_mut(key).is_some_and(|history| history.compact(revision));
        if empty {
            self.index.remove(key);
        }
    }

    fn lease_revoke(&mut self, id: LeaseId, events: &mut Vec<Event>) -> Result<(), Error> {
        let lease = self.leases.revoke(id)?;
        let at = self.revision + 1;
        for key in &lease.keys {
            self.delete(key, at, events);
        }
        self.revision += i64::from(!events.is_empty());
        Ok(())
    }

    /// Starts the lease's time anew; the answer is its time to live.
    pub fn lease_keep_alive(&mut self, id: LeaseId, now: Duration) -> Result<Duration, Error> {
        self.leases.keep_alive(id, now)
    }

    /// After a restart every lease has its whole time again: nobody could renew it meanwhile.
    pub fn renew_all_leases(&mut self, now: Duration) {
        self.leases.renew_all(now);
    }

    /// Leases whose time has passed; the caller logs a revocation for each.
    pub fn expired_leases(&self, now: Duration) -> Vec<LeaseId> {
        self.leases.expired(now)
    }

    pub fn next_lease_deadline(&self) -> Option<Duration> {
        self.leases.next_deadline()
    }

    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(id)
    }

    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter()
    }
}
