//! One process to a directory: an advisory lock on the file `lock` in it, which goes with the process however that ends.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// A directory that this process alone uses, for as long as this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Makes the directory if need be (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`Error::Locked`], which names the process that holds it, or [`Error::Io`].
    pub fn take(directory: &Path) -> Result<Self, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(Error::io("create directory", directory))?;
        let path = directory.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Whoever holds the lock may be about to write its pid: the message can do without.
                if file.read_to_string(&mut pid).is_err() || pid.trim().is_empty() {
                    pid = "unknown".to_string();
                }
                return Err(Error::Locked { path: directory.to_owned(), pid: pid.trim().to_string() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
        let write_pid = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // The pid is for people; a full disk must not keep the directory from being used.
        if let Err(error) = write_pid(&mut file) {
            tracing::warn!(path = %path.display(), %error, "cannot note the pid of the directory's user");
        }
        Ok(Self { file, path })
    }

    /// Gives the directory up and removes the file, for one that is about to be deleted.
    pub fn remove(self) -> Result<(), Error> {
        std::fs::remove_file(&self.path).map_err(Error::io("remove", &self.path))
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file alone would leave the lock with a child that is just being made, until it executes its program.
        let _freed = self.file.unlock();
    }
}
