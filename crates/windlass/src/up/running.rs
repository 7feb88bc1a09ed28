//! The note that `up` leaves in the data directory: which process runs on it, and the names of what that made on the host,
//! so that `down` and a later `up` find them without being told again.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::config::Settings;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pid: u32,
    /// When the process started, in clock ticks since boot: its number may be another's by now.
    start_ticks: u64,
    pub run: PathBuf,
    pub bridge: String,
    pub cgroup_root: String,
}

fn path(data: &Path) -> PathBuf {
    data.join("up.json")
}

impl Running {
    /// Writes the note. The store's lock has made sure that no other process runs on this data.
    pub fn record(settings: &Settings) -> anyhow::Result<()> {
        let pid = std::process::id();
        let running = Self {
            pid,
            start_ticks: start_ticks(pid).context("/proc does not know this process")?,
            run: settings.run.clone(),
            bridge: settings.bridge.clone(),
            cgroup_root: settings.cgroup_root.clone(),
        };
        bootstrap::files::write_file(&path(&settings.data), &serde_json::to_vec_pretty(&running)?, 0o644)?;
        Ok(())
    }

    /// The note of the latest `up` on this data, whether its process still runs or not.
    pub fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = path(data);
        let Some(text) = bootstrap::files::read_if_present(&path)? else { return Ok(None) };
        let running = serde_json::from_str(&text).with_context(|| format!("{}: not a note of ours", path.display()))?;
        Ok(Some(running))
    }

    /// Forgets the note, once nothing of what it names is left.
    pub fn remove(data: &Path) -> anyhow::Result<()> {
        let path = path(data);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The process, if it still runs.
    pub fn process(&self) -> Option<u32> {
        (start_ticks(self.pid) == Some(self.start_ticks)).then_some(self.pid)
    }
}

fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets; what follows the last bracket is regular.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_as_well() {
        let pid = std::process::id();
        let mut running = Running {
            pid,
            start_ticks: start_ticks(pid).unwrap(),
            run: "/run/x".into(),
            bridge: "b".into(),
            cgroup_root: "/c".into(),
        };
        assert_eq!(running.process(), Some(pid));
        running.start_ticks += 1;
        assert_eq!(running.process(), None);
    }
}
