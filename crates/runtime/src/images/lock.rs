//! One image store, several processes: a node that pulls, and `windlass image` beside it.
//!
//! Three locks of the kernel's (flock), all freed when they are dropped or their process ends. `users` is shared by everybody who has the
//! store open: who finds it free may clear away what a process that died left half done. `index.lock` is held for a
//! change of the index or the removal of layers, for moments only. A *lease* is a file that names layers which are to
//! stay though the index does not name them yet: those of an image that is being pulled, or of a container being made.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

/// A file with a lock on it. Closing the file would not free the lock at once: a child that this process is just making
/// shares the file until it executes its program.
#[derive(Debug)]
pub struct Locked(File);

impl Deref for Locked {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // What cannot be unlocked is freed by the kernel with its last user.
        let _freed = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Waits for the lock.
pub fn exclusive(path: &Path) -> io::Result<Locked> {
    let file = open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(Locked(file))
}

/// `None` when somebody else has it.
pub fn try_exclusive(path: &Path) -> io::Result<Option<Locked>> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Locked(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Takes a shared lock, and runs `alone` before when nobody else had any.
pub fn shared(path: &Path, alone: impl FnOnce() -> io::Result<()>) -> io::Result<Locked> {
    let file = match try_exclusive(path)? {
        Some(file) => {
            alone()?;
            file
        }
        None => Locked(open(path)?),
    };
    flock(&*file, FlockOperation::LockShared)?;
    Ok(file)
}

/// Waits for a file that its holder may delete: the lock counts only on the file that still has the name.
pub fn exclusive_while_named(path: &Path) -> io::Result<Locked> {
    use std::os::unix::fs::MetadataExt;
    loop {
        let file = exclusive(path)?;
        match std::fs::metadata(path) {
            Ok(named) if named.ino() == file.metadata()?.ino() => return Ok(file),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
}

/// Layers that stay as long as this is held.
#[derive(Debug)]
pub struct Lease {
    file: Locked,
    path: PathBuf,
}

impl Lease {
    /// A lease on nothing yet, in the directory of leases. The caller holds the lock of the index.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(uuid::Uuid::new_v4().to_string());
        let file = exclusive(&path)?;
        Ok(Self { file, path })
    }

    /// Names more layers. The caller holds the lock of the index, so that no removal has looked already.
    pub fn add(&self, layers: &[String]) -> io::Result<()> {
        let lines: String = layers.iter().map(|layer| format!("{layer}\n")).collect();
        (&*self.file).write_all(lines.as_bytes())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A lease that stays counts no more: its lock is free.
        let _removed = std::fs::remove_file(&self.path);
    }
}

/// The layers of every lease that is held. Those of processes that died are deleted. The caller holds the index's lock.
pub fn leased(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut layers = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            },
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                layers.extend(text.lines().map(str::to_owned));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(layers)
}
