//! The flight recorder: what may be on record about a node's pods, and how an ending is explained from the record.
//! It knows no file and no clock: the ring file lives in `store`, times are arguments.
//!
//! Start at [`What`] for the records, at [`explain`] for the reading of them, and at [`CAUSES`] for the list of
//! explanations, one file each under `causes/`.

mod cause;
mod causes;
mod chain;
mod outcome;
mod record;
mod story;
mod words;

pub use cause::{Cause, Decider, Rule};
pub use causes::{CAUSES, Explanation};
pub use chain::{Chain, Step, explain};
pub use outcome::{Obstacle, Outcome, Probe, Symptom};
pub use record::{Journal, Record, RecordId, Stored, Subject, What};
pub use words::signal_name;
