//! The records: what happened, to whom, and when.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Decider};
use crate::outcome::{Outcome, Probe};

/// Place of a record in the node's journal: strictly growing, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordId(pub u64);

/// Where records are written. The ring file implements it; tests use a vector.
pub trait Journal: Send + Sync + 'static {
    /// Writes one record, durable enough to survive the process, before the act that it explains.
    fn write(&self, at: Timestamp, record: Record) -> RecordId;
}

impl std::fmt::Debug for dyn Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

/// Whom a record is about. All empty: the node itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Which run of the container: 0, 1, 2 ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

impl Subject {
    pub fn node() -> Self {
        Self::default()
    }

    pub fn pod(namespace: impl Into<String>, pod: impl Into<String>, uid: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), pod: pod.into(), uid: uid.into(), container: None, attempt: None }
    }

    pub fn container(mut self, name: impl Into<String>, attempt: u32) -> Self {
        self.container = Some(name.into());
        self.attempt = Some(attempt);
        self
    }

    pub fn is_node(&self) -> bool {
        self.pod.is_empty() && self.uid.is_empty()
    }

    /// Whether a record about `other` belongs to the story of this subject. What this subject leaves open (uid, container,
    /// attempt) fits anything; the node's own records belong to every story.
    pub fn covers(&self, other: &Subject) -> bool {
        let open_or = |mine: &str, theirs: &str| mine.is_empty() || theirs.is_empty() || mine == theirs;
        let same_pod = open_or(&self.namespace, &other.namespace)
            && open_or(&self.pod, &other.pod)
            && open_or(&self.uid, &other.uid);
        // What concerns the pod as a whole concerns each of its containers.
        let same_container = self.container.is_none() || other.container.is_none() || self.container == other.container;
        let same_attempt = self.attempt.is_none() || other.attempt.is_none() || self.attempt == other.attempt;
        other.is_node() || (same_pod && same_container && same_attempt)
    }
}

/// What happened to whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    #[serde(flatten)]
    pub subject: Subject,
    pub what: What,
}

impl Record {
    pub fn new(subject: Subject, what: What) -> Self {
        Self { subject, what }
    }
}

/// A record with its place and time, as read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    pub id: RecordId,
    pub at: Timestamp,
    #[serde(flatten)]
    pub record: Record,
}

/// What happened. Whatever ends, delays or refuses something carries the [`Cause`] that names the decider, the rule and
/// the evidence; none of these can be built without it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    NodeStarted {
        version: String,
    },
    /// The node's process goes; `containers_left` keep running for the next one to adopt.
    NodeStopped {
        containers_left: u32,
        because: Cause,
    },
    /// The pod was taken in by this node.
    PodAdmitted,
    /// The node would not have the pod (`OutOfcpu`, `NodeAffinity`, `UnexpectedAdmissionError` ...).
    PodRefused {
        reason: String,
        message: String,
    },
    /// Found running at start, and left running.
    Adopted {
        running: bool,
    },
    /// A container that ran when this process began was not there any more.
    Lost {
        message: String,
    },
    Started {
        image: String,
    },
    ProbeAttempt {
        probe: Probe,
        outcome: Outcome,
        took_ms: u64,
        /// Unhealthy answers in a row with this one, and how many are needed for the verdict. An attempt that could not be
        /// asked changes neither.
        failures: u32,
        threshold: u32,
    },
    /// Written before the signal is sent.
    Signal {
        signal: i32,
        because: Cause,
    },
    /// The pod's sandbox with all that is in it is taken away; written before.
    Removal {
        because: Cause,
    },
    Exited {
        code: i32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        oom_killed: bool,
        ran_ms: u64,
        /// The last lines of its output.
        last_lines: Vec<String>,
    },
    /// Started again after an exit.
    Restart {
        because: Cause,
    },
    /// Waits before it is started or pulled again.
    BackOff {
        wait_ms: u64,
        because: Cause,
    },
    PullFailed {
        image: String,
        error: String,
    },
    /// Its configuration could not be made, or the runtime could not create or start it.
    StartFailed {
        reason: String,
        message: String,
    },
    MountFailed {
        volume: String,
        error: String,
    },
    SandboxFailed {
        error: String,
    },
    Evicted {
        reason: String,
        message: String,
        because: Cause,
    },
    DeletionRequested {
        by: Decider,
        grace_seconds: i64,
    },
    SchedulingRefused {
        message: String,
    },
    /// A write to disk took far longer than it should.
    FsyncStall {
        path: String,
        took_ms: u64,
    },
    RequestRefused {
        user: String,
        verb: String,
        resource: String,
        message: String,
        because: Cause,
    },
    LeaseLost {
        lease: String,
        because: Cause,
    },
}
