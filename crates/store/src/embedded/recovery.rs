//! From the directory's files back to the state: the newest snapshot, then the log's records after it.
//!
//! A group of records is written and synced before the next one is begun. So a broken record with nothing of a later
//! group behind it is the tail that a crash has torn, and is cut; anything else is corruption, and stops the store.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mvcc::Mvcc;

use super::codec;
use super::directory::{Directory, open_file};
use super::frame::{self, Frame};
use super::log::{Log, SEGMENT_HEADER_BYTES, Sealed, Segments, Tail, segment_header};
use super::snapshot;
use crate::error::Error;

pub(super) struct Recovered {
    pub state: Mvcc,
    pub log: Log,
    pub segments: Arc<Segments>,
    /// Place of the log that the snapshot had.
    pub snapshot_applied: u64,
}

pub(super) fn recover(path: PathBuf, segment_bytes: u64) -> Result<Recovered, Error> {
    let directory = Directory::open(path)?;
    let mut state = snapshot::load_newest(&directory)?.unwrap_or_default();
    let snapshot_applied = state.applied();
    let numbers = directory.list("log")?;
    let mut firsts = Vec::with_capacity(numbers.len());
    for number in &numbers {
        firsts.push(first_index(&directory, *number)?);
    }
    let mut sealed = VecDeque::new();
    let mut unused = Vec::new();
    let mut tail = None;
    for (at, number) in numbers.iter().enumerate() {
        let later = firsts.get(at + 1..).unwrap_or_default();
        // From where the next segment begins it has superseded this one: what is left there was never acknowledged.
        let superseded = later.iter().flatten().next().copied();
        // One at a time: together they may be far larger than the state.
        let segment = Contents::read(&directory, *number)?;
        let Replayed { end, last_index } = segment.replay(&mut state, superseded)?;
        let (number, bytes) = (segment.number, segment.bytes.len() as u64);
        match last_index {
            _ if later.is_empty() => tail = Some(Tail { number, end, last_index }),
            Some(last_index) => sealed.push_back(Sealed { number, last_index, bytes }),
            None => unused.push(segment.path),
        }
    }
    // Made, and given up before a record was in them: now it is sure that nothing is missing.
    for path in unused {
        std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
    }
    let next_number = numbers.last().map_or(1, |last| last + 1);
    state.renew_all_leases(Duration::ZERO);
    let segments = Arc::new(Segments::new(directory, segment_bytes, sealed)?);
    let log = Log::new(segments.clone(), tail, next_number)?;
    Ok(Recovered { state, log, segments, snapshot_applied })
}

/// Index of the record that a segment begins with, if a whole one is there.
fn first_index(directory: &Directory, number: u64) -> Result<Option<u64>, Error> {
    let path = directory.segment(number);
    let file = open_file(&path)?;
    let size = file.metadata().map_err(Error::io("stat", &path))?.len();
    let start = SEGMENT_HEADER_BYTES as u64;
    if size < start + frame::HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; frame::HEADER_BYTES];
    file.read_exact_at(&mut bytes, start).map_err(Error::io("read", &path))?;
    let length = frame::claimed_length(&bytes);
    if length as u64 > size - start {
        return Ok(None);
    }
    bytes.resize(length, 0);
    file.read_exact_at(&mut bytes, start).map_err(Error::io("read", &path))?;
    Ok(frame::read(&bytes, number).map(|frame| frame.index))
}

struct Contents {
    number: u64,
    path: PathBuf,
    bytes: Vec<u8>,
}

struct Replayed {
    end: u64,
    last_index: Option<u64>,
}

impl Contents {
    fn read(directory: &Directory, number: u64) -> Result<Self, Error> {
        let path = directory.segment(number);
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        Ok(Self { number, path, bytes })
    }

    fn corrupt(&self, offset: usize, reason: String) -> Error {
        Error::Corrupt { path: self.path.clone(), offset: offset as u64, reason }
    }

    fn frame(&self, at: usize) -> Option<Frame<'_>> {
        frame::read(self.bytes.get(at..)?, self.number)
    }

    /// Applies the records that the state does not have yet, up to those that a later segment has superseded.
    fn replay(&self, state: &mut Mvcc, superseded: Option<u64>) -> Result<Replayed, Error> {
        let mut at = SEGMENT_HEADER_BYTES;
        let mut last_index = None;
        while let Some(frame) = self.frame(at) {
            let follows = last_index.is_none_or(|last| frame.index == last + 1);
            if !follows || superseded.is_some_and(|first| frame.index >= first) {
                break;
            }
            if frame.index > state.applied() {
                self.apply(state, at, &frame)?;
            }
            last_index = Some(frame.index);
            at += frame.length;
        }
        if last_index.is_some() && !self.bytes.starts_with(&segment_header(self.number)) {
            return Err(self.corrupt(0, "the segment's header is damaged".to_string()));
        }
        match (superseded, last_index) {
            (Some(first), Some(last)) if last + 1 < first => {
                return Err(self.corrupt(at, format!("record {} is damaged", last + 1)));
            }
            (Some(_), _) => {}
            (None, last) => self.cut_tail(at, last.unwrap_or(state.applied()) + 1)?,
        }
        Ok(Replayed { end: at as u64, last_index })
    }

    fn apply(&self, state: &mut Mvcc, at: usize, frame: &Frame) -> Result<(), Error> {
        if frame.index != state.applied() + 1 {
            let missing = format!("records {} to {} are missing", state.applied() + 1, frame.index - 1);
            return Err(self.corrupt(at, missing));
        }
        // A copy, so that one value that lives long does not keep a whole segment in memory.
        let command = codec::decode(Bytes::copy_from_slice(frame.payload)).ok_or_else(|| {
            self.corrupt(at, "a record of an unknown form; it was written by another version".to_string())
        })?;
        state.apply(frame.index, &command, Duration::ZERO);
        Ok(())
    }

    /// What is behind the last good record must be nothing, or the torn rest of one group, which is wiped: once the space
    /// before its whole records is written anew, they would come to life again.
    fn cut_tail(&self, end: usize, next: u64) -> Result<(), Error> {
        let rest = self.bytes.get(end..).unwrap_or_default();
        let mut leftovers = frame::scan(rest, self.number).peekable();
        if leftovers.peek().is_none() {
            return Ok(());
        }
        // A record of a later group than the broken one's: the broken one had been synced.
        if let Some((at, frame)) = leftovers.find(|(_, frame)| frame.group > next) {
            let reason =
                format!("record {next} is damaged, yet record {} at offset {} is whole", frame.index, end + at);
            return Err(self.corrupt(end, reason));
        }
        let file = open_file(&self.path)?;
        file.write_all_at(&vec![0; rest.len()], end as u64).map_err(Error::io("write", &self.path))?;
        file.sync_data().map_err(Error::io("sync", &self.path))
    }
}
