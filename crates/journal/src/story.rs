//! The records that matter to one subject, oldest first, and the questions that causes ask of them.

use crate::record::{RecordId, Stored, Subject, What};

pub(crate) struct Story<'a> {
    /// Everything, to look evidence up.
    all: &'a [Stored],
    /// About the subject, its pod or the node.
    own: Vec<&'a Stored>,
}

impl<'a> Story<'a> {
    pub fn new(all: &'a [Stored], subject: &Subject) -> Self {
        let mut own: Vec<&Stored> = all.iter().filter(|stored| subject.covers(&stored.record.subject)).collect();
        // A name may have been used before: the story is that of the pod that came last.
        if subject.uid.is_empty()
            && let Some(uid) = own.iter().rev().map(|stored| &stored.record.subject.uid).find(|uid| !uid.is_empty())
        {
            own.retain(|stored| {
                stored.record.subject.is_node()
                    || stored.record.subject.uid.is_empty()
                    || stored.record.subject.uid == *uid
            });
        }
        own.sort_by_key(|stored| stored.id);
        Self { all, own }
    }

    pub fn get(&self, id: RecordId) -> Option<&'a Stored> {
        self.all.iter().find(|stored| stored.id == id)
    }

    /// Newest first, without the node's own records.
    pub fn newest_first(&self) -> impl Iterator<Item = &'a Stored> + '_ {
        self.own.iter().rev().copied().filter(|stored| !stored.record.subject.is_node())
    }

    pub fn node_newest_first(&self) -> impl Iterator<Item = &'a Stored> + '_ {
        self.own.iter().rev().copied().filter(|stored| stored.record.subject.is_node())
    }

    /// Records of the same run of the same container, oldest first.
    pub fn same_run(&self, of: &Stored) -> impl Iterator<Item = &'a Stored> + '_ {
        let subject = of.record.subject.clone();
        self.own.iter().copied().filter(move |stored| {
            let other = &stored.record.subject;
            other.uid == subject.uid && other.container == subject.container && other.attempt == subject.attempt
        })
    }

    /// Signals that were sent to this run before `of`, oldest first.
    pub fn signals_before(&self, of: &Stored) -> Vec<&'a Stored> {
        let is_signal = |stored: &&Stored| matches!(stored.record.what, What::Signal { .. }) && stored.id < of.id;
        self.same_run(of).filter(is_signal).collect()
    }

    /// Restarts and back-offs of the same container after `of`, up to the next exit.
    pub fn aftermath(&self, of: &Stored) -> Vec<&'a Stored> {
        let subject = &of.record.subject;
        let later = self.own.iter().copied().filter(|stored| {
            stored.id > of.id
                && stored.record.subject.uid == subject.uid
                && stored.record.subject.container == subject.container
        });
        let until_next = later.take_while(|stored| !matches!(stored.record.what, What::Exited { .. }));
        until_next.filter(|stored| matches!(stored.record.what, What::Restart { .. } | What::BackOff { .. })).collect()
    }

    /// How often the subject's container of this record has been started again.
    pub fn restarts(&self, of: &Stored) -> usize {
        let subject = &of.record.subject;
        let same = |stored: &&&Stored| {
            stored.record.subject.uid == subject.uid && stored.record.subject.container == subject.container
        };
        let is_restart = |stored: &&&Stored| matches!(stored.record.what, What::Restart { .. });
        self.own.iter().filter(same).filter(is_restart).count()
    }

    /// What a record rests on, and what that rests on, oldest first and each once.
    pub fn evidence(&self, of: &Stored) -> Vec<&'a Stored> {
        let mut found: Vec<&'a Stored> = Vec::new();
        let mut open: Vec<RecordId> = of.record.what.cause().map(|cause| cause.evidence.clone()).unwrap_or_default();
        while let Some(id) = open.pop() {
            if found.iter().any(|stored| stored.id == id) {
                continue;
            }
            // The ring may have overwritten it: the chain then starts later.
            if let Some(stored) = self.get(id) {
                open.extend(stored.record.what.cause().iter().flat_map(|cause| cause.evidence.iter()));
                found.push(stored);
            }
        }
        found.sort_by_key(|stored| stored.id);
        found
    }
}
