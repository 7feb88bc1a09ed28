//! What one key remembers: its versions since the last compaction, oldest first. A tombstone ends a generation; the next
//! put starts a new one with version 1.

use std::sync::Arc;

use crate::types::{KeyValue, Revision};

#[derive(Clone, Debug)]
struct Version {
    revision: Revision,
    /// `None` is a tombstone.
    kv: Option<Arc<KeyValue>>,
}

/// Never empty while it is in the index.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// The newest version apart, so that a key with one version (nearly all of them) needs no further allocation.
    newest: Version,
    older: Vec<Version>,
}

impl History {
    pub fn new(kv: Arc<KeyValue>) -> Self {
        Self { newest: Version { revision: kv.mod_revision, kv: Some(kv) }, older: Vec::new() }
    }

    /// A key changes at most once in a revision: a transaction with overlapping writes is refused before it runs.
    fn push(&mut self, version: Version) {
        assert!(version.revision > self.newest.revision, "a key's revisions only grow");
        let before = std::mem::replace(&mut self.newest, version);
        self.older.push(before);
    }

    pub fn put(&mut self, kv: Arc<KeyValue>) {
        self.push(Version { revision: kv.mod_revision, kv: Some(kv) });
    }

    pub fn delete(&mut self, revision: Revision) {
        assert!(self.newest.kv.is_some(), "only a live key is deleted");
        self.push(Version { revision, kv: None });
    }

    pub fn live(&self) -> Option<&Arc<KeyValue>> {
        self.newest.kv.as_ref()
    }

    /// The version that was current at `revision`.
    pub fn at(&self, revision: Revision) -> Option<&Arc<KeyValue>> {
        if self.newest.revision <= revision {
            return self.newest.kv.as_ref();
        }
        let newer = self.older.partition_point(|version| version.revision <= revision);
        self.older[..newer].last()?.kv.as_ref()
    }

    /// Forgets what no read at `revision` or later can see. True when nothing is left.
    pub fn compact(&mut self, revision: Revision) -> bool {
        if self.newest.revision <= revision {
            self.older = Vec::new();
            return self.newest.kv.is_none();
        }
        let visible_from = self.older.partition_point(|version| version.revision <= revision);
        let mut drop = visible_from.saturating_sub(1);
        // A tombstone as the oldest version says the same as no version.
        if visible_from > 0 && self.older[drop].kv.is_none() {
            drop += 1;
        }
        self.older.drain(..drop);
        self.older.shrink_to_fit();
        false
    }
}
