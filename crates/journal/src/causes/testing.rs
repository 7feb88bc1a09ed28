//! A journal in a vector, with a clock that the test moves.

use jiff::{SignedDuration, Timestamp};

use crate::{Record, RecordId, Stored, Subject, What, explain};

pub struct Tape {
    pub records: Vec<Stored>,
    pub subject: Subject,
    now: Timestamp,
}

impl Tape {
    pub fn new() -> Self {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        Self { records: Vec::new(), subject: Subject::pod("default", "web", "uid-1"), now }
    }

    pub fn wait(&mut self, ms: i64) -> &mut Self {
        self.now += SignedDuration::from_millis(ms);
        self
    }

    pub fn on(&mut self, subject: Subject, what: What) -> RecordId {
        let id = RecordId(self.records.len() as u64 + 1);
        self.records.push(Stored { id, at: self.now, record: Record::new(subject, what) });
        id
    }

    pub fn pod(&mut self, what: What) -> RecordId {
        self.on(self.subject.clone(), what)
    }

    pub fn app(&mut self, attempt: u32, what: What) -> RecordId {
        self.on(self.subject.clone().container("app", attempt), what)
    }

    pub fn exited(&mut self, attempt: u32, code: i32) -> RecordId {
        let signal = (code > 128).then(|| code - 128);
        let last_lines = if code == 0 { vec![] } else { vec!["panic: no such table".into()] };
        self.app(attempt, What::Exited { code, signal, oom_killed: false, ran_ms: 2300, last_lines })
    }

    /// The text a user sees, asking for the pod by name.
    pub fn why(&self) -> String {
        let text = explain(&self.records, &Subject::pod("default", "web", "")).to_string();
        // Trailing blanks do not survive editors.
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}
