//! Who is tried next (kubernetes/kubernetes pkg/scheduler/backend/queue): the active pods by priority and time, those
//! that wait out their back-off, and those that wait for something to happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::pod_view::{PodRef, PodView};
use crate::rules::{Happening, gates, rule};

const BACK_OFF_FIRST: SignedDuration = SignedDuration::from_secs(1);
const BACK_OFF_MAX: SignedDuration = SignedDuration::from_secs(10);
/// After so long a refused pod is tried again even if nothing has happened.
const UNSCHEDULABLE_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Higher priority first, then who came first.
type Order = (Reverse<i32>, Timestamp, PodRef);

#[derive(Debug)]
enum Place {
    Active(Order),
    BackOff {
        until: Timestamp,
    },
    /// Refused by these rules; none: anything may help.
    Unschedulable {
        since: Timestamp,
        by: BTreeSet<&'static str>,
    },
    Gated,
    /// Taken out to be decided on or bound.
    InFlight,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<PodView>,
    place: Place,
    added: Timestamp,
    attempts: u32,
    tried: Timestamp,
}

impl Entry {
    fn backed_off_until(&self) -> Timestamp {
        if self.attempts == 0 {
            return self.tried;
        }
        let doublings = (self.attempts - 1).min(8);
        let wait = BACK_OFF_FIRST.saturating_mul(1 << doublings).min(BACK_OFF_MAX);
        self.tried.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: BTreeMap<PodRef, Entry>,
    active: BTreeSet<Order>,
    back_off: BTreeSet<(Timestamp, PodRef)>,
}

impl Queue {
    /// A pod without a node, new or changed.
    pub fn set(&mut self, pod: Arc<PodView>, now: Timestamp) {
        let key = pod.key.clone();
        let gated = !gates(&pod).is_empty();
        let Some(entry) = self.entries.get_mut(&key) else {
            let entry = Entry { pod, place: Place::Gated, added: now, attempts: 0, tried: now };
            self.entries.insert(key.clone(), entry);
            if !gated {
                self.activate(&key);
            }
            return;
        };
        let before = std::mem::replace(&mut entry.pod, pod);
        let retry = is_reason_to_retry(&before, &entry.pod);
        match entry.place {
            Place::InFlight => {}
            _ if gated => self.put(&key, Place::Gated),
            Place::Gated => self.activate(&key),
            Place::Unschedulable { .. } if retry => self.wake(&key, now),
            // The order may have changed with the priority.
            Place::Active(_) => self.activate(&key),
            Place::Unschedulable { .. } | Place::BackOff { .. } => {}
        }
    }

    pub fn remove(&mut self, key: &PodRef) {
        self.put(key, Place::InFlight);
        self.entries.remove(key);
    }

    fn put(&mut self, key: &PodRef, place: Place) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match &entry.place {
            Place::Active(order) => drop(self.active.remove(order)),
            Place::BackOff { until } => drop(self.back_off.remove(&(*until, key.clone()))),
            Place::Unschedulable { .. } | Place::Gated | Place::InFlight => {}
        }
        match &place {
            Place::Active(order) => drop(self.active.insert(order.clone())),
            Place::BackOff { until } => drop(self.back_off.insert((*until, key.clone()))),
            Place::Unschedulable { .. } | Place::Gated | Place::InFlight => {}
        }
        entry.place = place;
    }

    fn activate(&mut self, key: &PodRef) {
        let Some(entry) = self.entries.get(key) else { return };
        let order = (Reverse(entry.pod.priority()), entry.added, key.clone());
        self.put(key, Place::Active(order));
    }

    /// Something has happened: the pod is tried when its back-off is over.
    fn wake(&mut self, key: &PodRef, now: Timestamp) {
        let Some(entry) = self.entries.get(key) else { return };
        match entry.backed_off_until() {
            until if until > now => self.put(key, Place::BackOff { until }),
            _ => self.activate(key),
        }
    }

    /// The next pod. While nothing is active, one that waits out its back-off is taken early: there is nobody it could
    /// hold up.
    pub fn pop(&mut self, now: Timestamp) -> Option<Arc<PodView>> {
        self.flush(now);
        let key = match self.active.first() {
            Some((_, _, key)) => key.clone(),
            None => self.back_off.iter().map(|(_, key)| key).find(|key| !self.failed_to_bind(key))?.clone(),
        };
        self.put(&key, Place::InFlight);
        let entry = self.entries.get_mut(&key)?;
        entry.attempts += 1;
        entry.tried = now;
        Some(entry.pod.clone())
    }

    /// An error, unlike a refusal, is not retried early.
    fn failed_to_bind(&self, key: &PodRef) -> bool {
        self.entries
            .get(key)
            .is_none_or(|entry| matches!(entry.place, Place::BackOff { until } if until > entry.backed_off_until()))
    }

    fn flush(&mut self, now: Timestamp) {
        while let Some((until, key)) = self.back_off.first().cloned()
            && until <= now
        {
            self.activate(&key);
        }
        let stale = |entry: &Entry| matches!(entry.place, Place::Unschedulable { since, .. } if now.duration_since(since) >= UNSCHEDULABLE_MAX);
        let stale: Vec<PodRef> =
            self.entries.iter().filter(|(_, entry)| stale(entry)).map(|(key, _)| key.clone()).collect();
        stale.iter().for_each(|key| self.wake(key, now));
    }

    pub fn refused(&mut self, key: &PodRef, by: BTreeSet<&'static str>, now: Timestamp) {
        self.put(key, Place::Unschedulable { since: now, by });
    }

    /// Bound in vain: the pod is tried again after its back-off.
    pub fn failed(&mut self, key: &PodRef, _now: Timestamp) {
        let Some(entry) = self.entries.get(key) else { return };
        let until = entry.backed_off_until().saturating_add(SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MAX);
        self.put(key, Place::BackOff { until });
    }

    /// Wakes the pods that what happened may help.
    pub fn happened(&mut self, happening: &Happening, now: Timestamp) {
        let helped = |entry: &Entry| match &entry.place {
            Place::Unschedulable { by, .. } => {
                by.is_empty() || by.iter().filter_map(|name| rule(name)).any(|rule| (rule.hint)(&entry.pod, happening))
            }
            _ => false,
        };
        let keys: Vec<PodRef> =
            self.entries.iter().filter(|(_, entry)| helped(entry)).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.wake(key, now));
    }

    pub fn is_in_flight(&self, key: &PodRef) -> bool {
        self.entries.get(key).is_some_and(|entry| matches!(entry.place, Place::InFlight))
    }

    /// When there may be something to pop although nothing happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        if !self.active.is_empty() {
            return Some(Timestamp::MIN);
        }
        let back_off = self.back_off.first().map(|(until, _)| *until);
        let stale = self.entries.values().filter_map(|entry| match entry.place {
            Place::Unschedulable { since, .. } => since.saturating_add(UNSCHEDULABLE_MAX).ok(),
            _ => None,
        });
        back_off.into_iter().chain(stale).min()
    }

    /// Active, backing off, unschedulable, gated: as upstream's metric `scheduler_pending_pods`.
    pub fn pending(&self) -> [usize; 4] {
        let mut counts = [self.active.len(), self.back_off.len(), 0, 0];
        for entry in self.entries.values() {
            match entry.place {
                Place::Unschedulable { .. } => counts[2] += 1,
                Place::Gated => counts[3] += 1,
                Place::Active(_) | Place::BackOff { .. } | Place::InFlight => {}
            }
        }
        counts
    }
}

/// Only the pod's status, or bookkeeping of its metadata, has changed: that helps nothing.
fn is_reason_to_retry(before: &PodView, now: &PodView) -> bool {
    before.pod.spec != now.pod.spec || before.labels != now.labels
}
