//! The store's directory: who may use it, and the names in it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::lock::DirectoryLock;

/// The directory, held alone by this process for as long as this lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: DirectoryLock,
}

impl Directory {
    /// Makes the directory if need be (mode 0700) and locks it.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let lock = DirectoryLock::take(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// Makes renames and new files durable.
    pub fn sync(&self) -> Result<(), Error> {
        let directory = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        directory.sync_all().map_err(Error::io("sync directory", &self.path))
    }

    pub fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("log-{number:016x}"))
    }

    pub fn spare(&self, number: u64) -> PathBuf {
        self.path.join(format!("spare-{number:016x}"))
    }

    pub fn snapshot(&self, index: u64) -> PathBuf {
        self.path.join(format!("snapshot-{index:016x}"))
    }

    pub fn unfinished_snapshot(&self) -> PathBuf {
        self.path.join("snapshot.unfinished")
    }

    /// Numbers of the files `<kind>-<number>`, ascending.
    pub fn list(&self, kind: &str) -> Result<Vec<u64>, Error> {
        let entries = std::fs::read_dir(&self.path).map_err(Error::io("list", &self.path))?;
        let mut numbers = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::io("list", &self.path))?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(kind)?.strip_prefix('-'));
            numbers.extend(number.and_then(|number| u64::from_str_radix(number, 16).ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub fn bytes_on_disk(&self) -> Result<u64, Error> {
        let entries = std::fs::read_dir(&self.path).map_err(Error::io("list", &self.path))?;
        // A file may be renamed or removed while the directory is read.
        let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len());
        Ok(sizes.sum())
    }
}

/// Opens a file for reading and writing, made if need be, mode 0600.
pub(super) fn open_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(Error::io("open", path))
}
