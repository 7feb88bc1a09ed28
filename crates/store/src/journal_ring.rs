//! The node's journal on disk: a few files of bounded size, the oldest of which is emptied when the newest is full.
//!
//! A record is appended with one write and no sync: it survives the process, not a power cut. Each line is
//! `checksum json`, so another process can read the files at any moment (`windlass why` with everything else down); a line
//! that is half written, or torn by a crash, fails its checksum and is left out.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use journal::{Journal, Record, RecordId, Stored};

use crate::error::Error;

/// Files of the ring. One of them is thrown away at a time, so at least three quarters of the size is history.
const FILES: u64 = 4;
/// What a ring may take up unless told otherwise.
pub const DEFAULT_BYTES: u64 = 16 << 20;

/// The writing end. One process at a time writes; any number read.
pub struct JournalRing {
    directory: PathBuf,
    file_bytes_max: u64,
    ring: Mutex<Ring>,
}

struct Ring {
    file: File,
    number: u64,
    bytes: u64,
    next: u64,
}

impl JournalRing {
    /// Opens the ring in a directory, made if need be (mode 0700), and goes on after its last record.
    pub fn open(directory: impl Into<PathBuf>, bytes_max: u64) -> Result<Self, Error> {
        let directory = directory.into();
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(Error::io("create directory", &directory))?;
        let numbers = numbers(&directory)?;
        let number = numbers.last().copied().unwrap_or(1);
        let last = read_all(&directory)?.last().map_or(0, |stored| stored.id.0);
        let file = append_to(&file_name(&directory, number))?;
        let bytes = file.metadata().map_err(Error::io("stat", &directory))?.len();
        let mut ring = Ring { file, number, bytes, next: last + 1 };
        if bytes > 0 {
            // Ends a line that a crash has torn, so that it does not swallow the next one.
            ring.append(b"\n").map_err(Error::io("write", &directory))?;
        }
        Ok(Self { file_bytes_max: (bytes_max / FILES).max(4096), directory, ring: Mutex::new(ring) })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Every record in a ring, oldest first, also while another process writes.
    pub fn read_all(directory: &Path) -> Result<Vec<Stored>, Error> {
        read_all(directory)
    }

    fn rotate(&self, ring: &mut Ring) -> Result<(), Error> {
        let number = ring.number + 1;
        let path = file_name(&self.directory, number);
        ring.file = append_to(&path)?;
        ring.file.set_len(0).map_err(Error::io("truncate", &path))?;
        (ring.number, ring.bytes) = (number, 0);
        for old in numbers(&self.directory)?.into_iter().filter(|old| old + FILES <= number) {
            let path = file_name(&self.directory, old);
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }
}

impl Ring {
    fn append(&mut self, line: &[u8]) -> std::io::Result<()> {
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

impl Journal for JournalRing {
    /// A journal that cannot be written (a full disk) must not stop what it records: the failure goes to the log.
    fn write(&self, at: Timestamp, record: Record) -> RecordId {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let id = RecordId(ring.next);
        ring.next += 1;
        let line = match line(&Stored { id, at, record }) {
            Ok(line) => line,
            Err(error) => {
                tracing::error!(%error, "a journal record cannot be written as JSON");
                return id;
            }
        };
        if ring.bytes > 0
            && ring.bytes + line.len() as u64 > self.file_bytes_max
            && let Err(error) = self.rotate(&mut ring)
        {
            tracing::error!(%error, "the journal cannot begin a new file");
        }
        if let Err(error) = ring.append(&line) {
            tracing::error!(%error, directory = %self.directory.display(), "a journal record was lost");
        }
        id
    }
}

fn line(stored: &Stored) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(stored)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn parse(line: &[u8]) -> Option<Stored> {
    let (checksum, json) = (line.get(..8)?, line.get(9..)?);
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
    (checksum == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok())?
}

fn read_all(directory: &Path) -> Result<Vec<Stored>, Error> {
    let mut records = Vec::new();
    for number in numbers(directory)? {
        let path = file_name(directory, number);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // Thrown away by the writer since it was listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        records.extend(bytes.split(|byte| *byte == b'\n').filter_map(parse));
    }
    records.sort_by_key(|stored: &Stored| stored.id);
    Ok(records)
}

fn file_name(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("journal-{number:08}"))
}

fn numbers(directory: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let name = entry.map_err(Error::io("list", directory))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("journal-"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn append_to(path: &Path) -> Result<File, Error> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(Error::io("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::{Subject, What};

    fn record(message: &str) -> Record {
        Record::new(Subject::pod("default", "web", "uid"), What::SchedulingRefused { message: message.to_string() })
    }

    #[test]
    fn goes_on_after_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let ring = JournalRing::open(dir.path(), DEFAULT_BYTES).unwrap();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(ring.write(at, record("a")), RecordId(1));
        // Read while it is open for writing.
        assert_eq!(read_all(dir.path()).unwrap().len(), 1);
        drop(ring);
        let path = file_name(dir.path(), 1);
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"0badc0de {\"id\":2,\"at\"").unwrap();
        let ring = JournalRing::open(dir.path(), DEFAULT_BYTES).unwrap();
        assert_eq!(ring.write(at, record("b")), RecordId(2));
        let all = read_all(dir.path()).unwrap();
        assert_eq!(all.iter().map(|stored| stored.id.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(all[1].record, record("b"));
    }

    #[test]
    fn keeps_its_size_and_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let ring = JournalRing::open(dir.path(), 40_000).unwrap();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        for number in 0..2000 {
            ring.write(at, record(&format!("message {number}")));
        }
        let total: u64 = std::fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum();
        assert!((25_000..=40_000).contains(&total), "{total} bytes");
        let all = read_all(dir.path()).unwrap();
        assert_eq!(all.last().unwrap().id, RecordId(2000));
        let ids: Vec<u64> = all.iter().map(|stored| stored.id.0).collect();
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "no record is missing in between");
    }
}
