//! Where the runtime keeps things. Two directories: `data` survives a reboot (images, container layers and records),
//! `run` does not have to (sandboxes, sockets), so what stands there carries the boot's identity.

use std::io;
use std::path::{Path, PathBuf};

use pods::ports::ContainerId;
use sha2::{Digest, Sha256};

/// The runtime's two directories.
#[derive(Clone, Debug)]
pub struct Layout {
    pub data: PathBuf,
    pub run: PathBuf,
}

impl Layout {
    pub fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// The directory of one container: its record, OCI specification, writable layer and exit status.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(short(id))
    }

    pub fn sandboxes(&self) -> PathBuf {
        self.run.join("pods")
    }

    pub fn sandbox(&self, pod_uid: &str) -> PathBuf {
        self.sandboxes().join(pod_uid)
    }

    /// The socket on which a container's shim answers. Short, because a socket's path may have 107 bytes at most.
    pub fn socket(&self, id: &ContainerId) -> PathBuf {
        self.run.join("c").join(short(id))
    }

    /// libcontainer's own state, needed only while a container is being made.
    pub fn libcontainer(&self) -> PathBuf {
        self.run.join("lc")
    }

    /// The one mount point at which every shim mounts its container's root, each in its own mount namespace.
    pub fn root_mount(&self) -> PathBuf {
        self.run.join("root")
    }

    pub fn create(&self) -> io::Result<()> {
        for dir in [
            self.images(),
            self.containers(),
            self.sandboxes(),
            self.run.join("c"),
            self.libcontainer(),
            self.root_mount().join("m"),
        ] {
            std::fs::create_dir_all(dir)?;
        }
        Ok(())
    }
}

/// Removes what this runtime made in its `run` directory, after `cleanup_everything`, and the directory itself unless
/// somebody else keeps something there.
pub fn remove_run_dir(run: &Path) -> io::Result<()> {
    for name in ["pods", "c", "lc", "root"] {
        match std::fs::remove_dir_all(run.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match std::fs::remove_dir(run) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(error),
        _ => Ok(()),
    }
}

/// A container's name in paths and cgroups: 24 hexadecimal digits made from its identity.
pub fn short(id: &ContainerId) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", id.pod_uid, id.name, id.attempt));
    digest.iter().take(12).map(|b| format!("{b:02x}")).collect()
}

/// Writes a file so that a reader sees the old content or the new, never a part. A loss of power may leave either, or an
/// empty file: for records that count only until the machine's next boot.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, path)
}

/// Writes a file so that the old content or the new is there, whole, whatever happens; on return it is the new.
pub fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

/// The identity of this boot of the machine: what `run` holds from another boot is dead.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |s| s.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_differ_by_attempt_and_fit_sockets() {
        let id = |attempt| ContainerId { pod_uid: "u".into(), name: "c".into(), attempt };
        assert_ne!(short(&id(0)), short(&id(1)));
        assert_eq!(short(&id(0)).len(), 24);
    }
}
