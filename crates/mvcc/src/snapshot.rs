//! A state as plain parts, for a snapshot file: the keys as they were at the compacted revision and the changes since.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::history::History;
use crate::state::Mvcc;
use crate::types::*;

/// Everything a state is made of. Values are shared with the state, so taking one copies no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub revision: Revision,
    pub compacted: Revision,
    pub applied: u64,
    /// Live keys as of `compacted`, in key order.
    pub base: Vec<Arc<KeyValue>>,
    /// Changes at and after `compacted`, oldest first. Those at `compacted` itself are in `base` already.
    pub events: Vec<(EventKind, Arc<KeyValue>)>,
    pub leases: Vec<(LeaseId, Duration)>,
}

impl Mvcc {
    /// Everything at once.
    pub fn image(&self) -> Image {
        let mut image = self.image_head();
        image.base = self.base_after(None, usize::MAX);
        image.events = self.events_from(0, usize::MAX);
        image
    }

    /// An image to be filled piece by piece while the state goes on: the history keeps what was true at its revision. It is
    /// good as long as the state is not compacted meanwhile.
    pub fn image_head(&self) -> Image {
        Image {
            revision: self.revision,
            compacted: self.compacted,
            applied: self.applied,
            base: Vec::new(),
            events: Vec::new(),
            leases: self.leases.iter().map(|lease| (lease.id, lease.ttl)).collect(),
        }
    }

    /// Keys after `after` as of the compacted revision, and where to go on, which is `None` at the end. At most `limit` keys
    /// are looked at.
    pub fn base_chunk(&self, after: Option<&[u8]>, limit: usize) -> (Vec<Arc<KeyValue>>, Option<Bytes>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut kvs = Vec::new();
        let mut last = None;
        for (key, history) in self.index.range::<[u8], _>((from, Bound::Unbounded)).take(limit) {
            kvs.extend(history.at(self.compacted).cloned());
            last = Some(key);
        }
        (kvs, last.cloned())
    }

    fn base_after(&self, after: Option<&[u8]>, limit: usize) -> Vec<Arc<KeyValue>> {
        self.base_chunk(after, limit).0
    }

    /// Changes since the compacted revision, from the `skip`th on.
    pub fn events_from(&self, skip: usize, limit: usize) -> Vec<(EventKind, Arc<KeyValue>)> {
        self.events.iter().skip(skip).take(limit).map(|event| (event.kind, event.kv.clone())).collect()
    }

    /// The state that an image was taken of, except that leases have their whole time from `now`.
    pub fn from_image(image: Image, now: Duration) -> Self {
        let mut state =
            Self { revision: image.revision, compacted: image.compacted, applied: image.applied, ..Self::default() };
        for (id, ttl) in image.leases {
            let granted = state.leases.grant(id, ttl, now);
            assert!(granted.is_ok(), "an image names each lease once");
        }
        for kv in image.base {
            assert!(kv.mod_revision <= image.compacted, "the base is as of the compacted revision");
            state.live_bytes += (kv.key.len() + kv.value.len()) as u64;
            state.leases.attach(kv.lease, kv.key.clone());
            state.index.insert(kv.key.clone(), History::new(kv));
        }
        let mut replayed = Vec::with_capacity(image.events.len());
        for (kind, kv) in image.events {
            assert!(kv.mod_revision <= image.revision, "no change is newer than the image");
            match kind {
                _ if kv.mod_revision == image.compacted => replayed.push(Event { kind, kv, prev_kv: None }),
                EventKind::Put => {
                    state.put(KeyValue::clone(&kv), &mut replayed);
                }
                EventKind::Delete => {
                    let before = state.delete(&kv.key, kv.mod_revision, &mut replayed);
                    assert!(before.is_some(), "only a live key is deleted");
                }
            }
        }
        state.events = replayed.into();
        state
    }
}
