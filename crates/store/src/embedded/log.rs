//! The log: numbered segments of a fixed size, written with zeroes before they are used and used again when a snapshot
//! has made them unnecessary. Writing then changes neither a file's size nor its blocks, so a sync writes data only.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::directory::{Directory, open_file};
use super::frame;
use crate::error::Error;

/// `magic, number of the segment`, so that a stray file is not taken for a segment.
pub(super) const SEGMENT_HEADER_BYTES: usize = 16;
const SEGMENT_MAGIC: &[u8; 8] = b"wndl-log";
/// Segments that wait to be used again.
const SPARES_MAX: usize = 2;

pub(super) fn segment_header(number: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..8].copy_from_slice(SEGMENT_MAGIC);
    header[8..].copy_from_slice(&number.to_le_bytes());
    header
}

struct Spare {
    path: PathBuf,
    file: File,
    bytes: u64,
}

#[derive(Default)]
struct SparePool {
    ready: Vec<Spare>,
    next_number: u64,
}

/// Segments that are written full, oldest first, with the index of their last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub number: u64,
    pub last_index: u64,
    pub bytes: u64,
}

/// What the log's writer and the keeper share.
pub(super) struct Segments {
    pub directory: Directory,
    segment_bytes: u64,
    spares: Mutex<SparePool>,
    /// Held while a segment is made in advance: whoever needs one now waits for that one instead of making another.
    making: Mutex<()>,
    sealed: Mutex<VecDeque<Sealed>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is one step, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segments {
    pub fn new(directory: Directory, segment_bytes: u64, sealed: VecDeque<Sealed>) -> Result<Self, Error> {
        let mut pool = SparePool::default();
        for number in directory.list("spare")? {
            pool.next_number = number + 1;
            let path = directory.spare(number);
            let file = open_file(&path)?;
            let bytes = file.metadata().map_err(Error::io("stat", &path))?.len();
            // One that was cut short while it was made, or has another size, is of no use.
            if bytes == segment_bytes && pool.ready.len() < SPARES_MAX {
                pool.ready.push(Spare { path, file, bytes });
            } else {
                remove(&path);
            }
        }
        Ok(Self {
            directory,
            segment_bytes,
            spares: Mutex::new(pool),
            making: Mutex::new(()),
            sealed: Mutex::new(sealed),
        })
    }

    /// Makes a segment in advance, unless there is one.
    pub fn prepare(&self) -> Result<(), Error> {
        let _making = lock(&self.making);
        if lock(&self.spares).ready.is_empty() {
            let spare = self.make(self.segment_bytes)?;
            lock(&self.spares).ready.push(spare);
        }
        Ok(())
    }

    fn make(&self, bytes: u64) -> Result<Spare, Error> {
        let number = {
            let mut pool = lock(&self.spares);
            pool.next_number += 1;
            pool.next_number
        };
        let path = self.directory.spare(number);
        let file = open_file(&path)?;
        let zeroes = vec![0; 1 << 20];
        let fill = || -> std::io::Result<()> {
            let mut at = 0;
            while at < bytes {
                let length = zeroes.len().min(usize::try_from(bytes - at).unwrap_or(zeroes.len()));
                file.write_all_at(&zeroes[..length], at)?;
                at += length as u64;
            }
            file.sync_all()
        };
        match fill() {
            Ok(()) => Ok(Spare { path, file, bytes }),
            Err(error) => {
                remove(&path);
                Err(Error::unwritable(&path, error))
            }
        }
    }

    fn take(&self, bytes_min: u64) -> Result<Spare, Error> {
        if bytes_min <= self.segment_bytes {
            let ready = lock(&self.spares).ready.pop();
            let ready = ready.or_else(|| {
                drop(lock(&self.making));
                lock(&self.spares).ready.pop()
            });
            if let Some(spare) = ready {
                return Ok(spare);
            }
        }
        self.make(self.segment_bytes.max(bytes_min))
    }

    pub fn sealed(&self) -> Vec<Sealed> {
        lock(&self.sealed).iter().cloned().collect()
    }

    /// Gives segments back whose records are all in a snapshot.
    pub fn release_up_to(&self, index: u64) -> Result<(), Error> {
        loop {
            let Some(oldest) = lock(&self.sealed).front().filter(|oldest| oldest.last_index <= index).cloned() else {
                return Ok(());
            };
            let path = self.directory.segment(oldest.number);
            let keep = oldest.bytes == self.segment_bytes && lock(&self.spares).ready.len() < SPARES_MAX;
            if keep {
                let number = {
                    let mut pool = lock(&self.spares);
                    pool.next_number += 1;
                    pool.next_number
                };
                let spare = self.directory.spare(number);
                std::fs::rename(&path, &spare).map_err(Error::io("rename", &path))?;
                let file = open_file(&spare)?;
                lock(&self.spares).ready.push(Spare { path: spare, file, bytes: oldest.bytes });
            } else {
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
            lock(&self.sealed).pop_front();
        }
    }
}

/// A file that nobody needs; that it stays is no harm.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "cannot remove an unneeded file");
    }
}

struct Active {
    number: u64,
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Where the next record goes.
    end: u64,
    last_index: Option<u64>,
}

/// The writing end.
pub(super) struct Log {
    segments: Arc<Segments>,
    active: Option<Active>,
    next_number: u64,
    buffer: Vec<u8>,
}

/// What became of a group.
pub(super) struct Appended {
    /// So many of its records are durable; the others wait for the next segment.
    pub count: usize,
    /// How long the sync took.
    pub took: Duration,
    /// A new segment was begun: the keeper may have work.
    pub rotated: bool,
}

/// Where recovery has left the last segment.
pub(super) struct Tail {
    pub number: u64,
    pub end: u64,
    pub last_index: Option<u64>,
}

impl Log {
    pub fn new(segments: Arc<Segments>, tail: Option<Tail>, next_number: u64) -> Result<Self, Error> {
        let active = match tail {
            None => None,
            Some(Tail { number, end, last_index }) => {
                let path = segments.directory.segment(number);
                let file = open_file(&path)?;
                let bytes = file.metadata().map_err(Error::io("stat", &path))?.len();
                Some(Active { number, path, file, bytes, end, last_index })
            }
        };
        Ok(Self { segments, active, next_number, buffer: Vec::new() })
    }

    /// Writes the first of these records, as many as go into the segment together, and syncs once. The answer is how
    /// many they were. After an error none of them is taken as written.
    pub fn append(&mut self, first_index: u64, payloads: &[Vec<u8>]) -> Result<Appended, Error> {
        assert!(!payloads.is_empty(), "a group has at least one record");
        let first = frame::length_on_disk(payloads[0].len()) as u64;
        let full = self.active.as_ref().is_none_or(|active| active.end + first > active.bytes);
        if full {
            self.rotate(first)?;
        }
        let Some(active) = &mut self.active else { unreachable!("rotate has made a segment") };
        self.buffer.clear();
        let mut start = active.end;
        if active.last_index.is_none() && start == SEGMENT_HEADER_BYTES as u64 {
            self.buffer.extend_from_slice(&segment_header(active.number));
            start = 0;
        }
        let mut count = 0;
        for (index, payload) in (first_index..).zip(payloads) {
            let end = start + self.buffer.len() as u64 + frame::length_on_disk(payload.len()) as u64;
            if end > active.bytes {
                break;
            }
            frame::append(&mut self.buffer, active.number, index, first_index, payload);
            count += 1;
        }
        assert!(count > 0, "a segment holds at least one record");
        if let Err(error) = active.file.write_all_at(&self.buffer, start) {
            let path = active.path.clone();
            self.abandon();
            return Err(Error::unwritable(&path, error));
        }
        let began = Instant::now();
        if let Err(error) = active.file.sync_data() {
            let place = active.path.display().to_string();
            self.abandon();
            return Err(Error::Unknown { place, reason: error.to_string() });
        }
        active.end = start + self.buffer.len() as u64;
        // One burst must not keep its memory for ever.
        self.buffer.shrink_to(1 << 20);
        active.last_index = Some(first_index + count as u64 - 1);
        Ok(Appended { count, took: began.elapsed(), rotated: full })
    }

    fn seal(&mut self) {
        let Some(Active { number, last_index, bytes, .. }) = self.active.take() else { return };
        if let Some(last_index) = last_index {
            lock(&self.segments.sealed).push_back(Sealed { number, last_index, bytes });
        }
    }

    /// After a failed write nobody knows what the rest of the segment holds: it ends where it was known to end, and the
    /// next records go to another. Recovery drops records of a segment that the next one begins with.
    fn abandon(&mut self) {
        if let Some(Active { last_index: None, path, .. }) = &self.active {
            remove(path);
        }
        self.seal();
    }

    fn rotate(&mut self, first_bytes: u64) -> Result<(), Error> {
        let unwritable = |error: Error| match error {
            Error::Io { action, path, source } => Error::unwritable(&path, format_args!("{action}: {source}")),
            other => other,
        };
        let spare = self.segments.take(SEGMENT_HEADER_BYTES as u64 + first_bytes).map_err(unwritable)?;
        let number = self.next_number;
        let path = self.segments.directory.segment(number);
        if let Err(error) = std::fs::rename(&spare.path, &path) {
            let error = Error::io("rename", &spare.path)(error);
            lock(&self.segments.spares).ready.push(spare);
            return Err(unwritable(error));
        }
        self.segments.directory.sync().map_err(unwritable)?;
        self.seal();
        self.next_number += 1;
        let end = SEGMENT_HEADER_BYTES as u64;
        self.active = Some(Active { number, path, file: spare.file, bytes: spare.bytes, end, last_index: None });
        Ok(())
    }
}
