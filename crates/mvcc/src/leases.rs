//! Leases: keys that go when nobody renews them. Deadlines are kept beside the replicated state: they are not in the
//! log, and after a restart every lease has its whole time to live again, as in etcd (`server/lease/lessor.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::types::LeaseId;

/// etcd `server/lease/lessor.go`: MaxLeaseTTL, in seconds.
const TTL_S_MAX: i64 = 9_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    pub ttl: Duration,
    /// In the caller's own monotonic time.
    pub deadline: Duration,
    pub keys: BTreeSet<Bytes>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    by_deadline: BTreeSet<(Duration, LeaseId)>,
}

impl Leases {
    pub fn grant(&mut self, id: LeaseId, ttl: Duration, now: Duration) -> Result<(), Error> {
        if self.by_id.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        if ttl.as_secs() > TTL_S_MAX.unsigned_abs() {
            return Err(Error::LeaseTtlTooLarge);
        }
        let deadline = now.saturating_add(ttl);
        self.by_id.insert(id, Lease { id, ttl, deadline, keys: BTreeSet::new() });
        self.by_deadline.insert((deadline, id));
        Ok(())
    }

    /// Takes the lease away; its keys are the caller's to delete.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Lease, Error> {
        let lease = self.by_id.remove(&id).ok_or(Error::LeaseNotFound)?;
        self.by_deadline.remove(&(lease.deadline, id));
        Ok(lease)
    }

    pub fn keep_alive(&mut self, id: LeaseId, now: Duration) -> Result<Duration, Error> {
        let lease = self.by_id.get_mut(&id).ok_or(Error::LeaseNotFound)?;
        self.by_deadline.remove(&(lease.deadline, id));
        lease.deadline = now.saturating_add(lease.ttl);
        self.by_deadline.insert((lease.deadline, id));
        Ok(lease.ttl)
    }

    pub fn renew_all(&mut self, now: Duration) {
        self.by_deadline.clear();
        for lease in self.by_id.values_mut() {
            lease.deadline = now.saturating_add(lease.ttl);
            self.by_deadline.insert((lease.deadline, lease.id));
        }
    }

    pub fn attach(&mut self, id: LeaseId, key: Bytes) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    pub fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.by_id.values()
    }

    pub fn expired(&self, now: Duration) -> Vec<LeaseId> {
        self.by_deadline.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect()
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }
}
