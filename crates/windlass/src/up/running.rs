//! The note that `up` leaves in the data directory: which process runs on it, and what that made elsewhere on the host, so
//! that `down`, `reset` and a later `up` find it without being told again.

use std::path::{Path, PathBuf};

use anyhow::Context;
use runtime::start_ticks;
use serde::{Deserialize, Serialize};

use crate::config::Settings;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pid: u32,
    /// When the process started, in clock ticks since boot: its number may be another's by now.
    start_ticks: u64,
    /// Not with `--control-plane-only`: nothing was made then but files.
    pub node: bool,
    pub run: PathBuf,
    pub bridge: String,
    pub cgroup_root: String,
    pub pod_logs: PathBuf,
    pub kubeconfig: PathBuf,
    /// The user's kubeconfig that our context was put into.
    pub merged_into: Option<PathBuf>,
}

fn path(data: &Path) -> PathBuf {
    data.join("up.json")
}

impl Running {
    /// Writes the note. The lock on the data directory has made sure that no other process runs there.
    pub fn record(settings: &Settings) -> anyhow::Result<()> {
        let pid = std::process::id();
        let before = Self::read(&settings.data)?;
        let running = Self {
            pid,
            start_ticks: start_ticks(pid).context("/proc does not know this process")?,
            // A node of an earlier time is still to be taken down.
            node: !settings.control_plane_only || before.as_ref().is_some_and(|note| note.node),
            run: settings.run.clone(),
            bridge: settings.bridge.clone(),
            cgroup_root: settings.cgroup_root.clone(),
            pod_logs: settings.pod_logs.clone(),
            kubeconfig: settings.kubeconfig.clone(),
            merged_into: settings.merge_into.clone().or_else(|| before.and_then(|note| note.merged_into)),
        };
        running.write(&settings.data)
    }

    fn write(&self, data: &Path) -> anyhow::Result<()> {
        Ok(bootstrap::files::write_file(&path(data), &serde_json::to_vec_pretty(self)?, 0o644)?)
    }

    /// The note of the latest `up` on this data, whether its process still runs or not.
    pub fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = path(data);
        let text = bootstrap::files::read_if_present(&path).map_err(|error| match error.source.kind() {
            std::io::ErrorKind::PermissionDenied => {
                anyhow::anyhow!("{error}: if the node was started by root, run this as root (sudo windlass ...)")
            }
            _ => error.into(),
        })?;
        let Some(text) = text else { return Ok(None) };
        let running = serde_json::from_str(&text).with_context(|| format!("{}: not a note of ours", path.display()))?;
        Ok(Some(running))
    }

    /// Notes that the node was taken down. What outlives it, as logs and kubeconfigs, stays on the note for `reset`.
    pub fn taken_down(data: &Path) -> anyhow::Result<()> {
        match Self::read(data)? {
            Some(note) => Self { node: false, ..note }.write(data),
            None => Ok(()),
        }
    }

    /// The process, if it still runs.
    pub fn process(&self) -> Option<u32> {
        (start_ticks(self.pid) == Some(self.start_ticks)).then_some(self.pid)
    }
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
            node: true,
            run: "/run/x".into(),
            bridge: "b".into(),
            cgroup_root: "/c".into(),
            pod_logs: "/l".into(),
            kubeconfig: "/k".into(),
            merged_into: None,
        };
        assert_eq!(running.process(), Some(pid));
        running.start_ticks += 1;
        assert_eq!(running.process(), None);
    }
}
