//! The note that `up` or `join` leaves in the data directory: which process runs on it, and what that made elsewhere on the host, so
//! that `down`, `reset` and a later `up` find it without being told again.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use runtime::start_ticks;
use serde::{Deserialize, Serialize};

use crate::config::Settings;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pid: u32,
    /// When the process started, in clock ticks since boot: its number may be another's by now.
    start_ticks: u64,
    /// Whether a node may have left something on the host: not before `up` came so far, nor with
    /// `--control-plane-only`, for nothing was made then but files.
    pub node: bool,
    pub run: PathBuf,
    pub bridge: String,
    pub cgroup_root: String,
    pub pod_logs: PathBuf,
    pub kubeconfig: PathBuf,
    /// The user's kubeconfig that our context was put into.
    pub merged_into: Option<PathBuf>,
}

impl Running {
    pub fn path(data: &Path) -> PathBuf {
        data.join("up.json")
    }

    /// Writes the note before anything else is made: it is what makes the data directory known as one. The lock on that has
    /// made sure that no other process runs there.
    pub fn begin(settings: &Settings) -> anyhow::Result<()> {
        Self::note(settings, false)
    }

    /// Writes the note before the node, if there is to be one, makes anything of the host.
    pub fn record(settings: &Settings) -> anyhow::Result<()> {
        Self::note(settings, settings.runs_node())
    }

    fn note(settings: &Settings, node: bool) -> anyhow::Result<()> {
        let pid = std::process::id();
        let before = Self::read(&settings.data)?;
        if let Some(before) = &before {
            before.check_names(settings)?;
        }
        let running = Self {
            pid,
            start_ticks: start_ticks(pid).context("/proc does not know this process")?,
            // A node of an earlier time is still to be taken down.
            node: node || before.as_ref().is_some_and(|note| note.node),
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
        Ok(bootstrap::files::write_file(&Self::path(data), &serde_json::to_vec_pretty(self)?, 0o644)?)
    }

    /// The note of the latest `up` on this data, whether its process still runs or not.
    pub fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(data);
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

    /// Refuses other names than those of a node that is still to be taken down: what it made is found by them alone.
    pub fn check_names(&self, settings: &Settings) -> anyhow::Result<()> {
        if !self.node {
            return Ok(());
        }
        // As paths, of which one may be written in several ways.
        for (option, made, asked) in [
            ("--run-dir", self.run.as_path(), settings.run.as_path()),
            ("--bridge", Path::new(&self.bridge), Path::new(&settings.bridge)),
            ("--cgroup-root", Path::new(&self.cgroup_root), Path::new(&settings.cgroup_root)),
        ] {
            if made != asked {
                bail!(
                    "{option} {}: the node of {data} was started with {option} {} and is not taken down yet: run `windlass \
                     down --data-dir {data}` first",
                    asked.display(),
                    made.display(),
                    data = settings.data.display(),
                );
            }
        }
        Ok(())
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
    use crate::config::Options;

    fn settings(data: &Path, bridge: Option<&str>) -> Settings {
        let options = Options {
            data_dir: Some(data.to_owned()),
            node_name: Some("n".to_owned()),
            bridge: bridge.map(str::to_owned),
            no_merge_kubeconfig: true,
            ..Options::default()
        };
        options.resolve().unwrap()
    }

    #[test]
    fn a_node_keeps_its_names_until_it_is_taken_down() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let note = || Running::read(data).unwrap().map(|note| (note.node, note.bridge)).unwrap();
        // An `up` that ended before the node made anything binds to nothing.
        Running::begin(&settings(data, Some("b0"))).unwrap();
        assert_eq!(note(), (false, "b0".to_owned()));
        Running::record(&settings(data, Some("b1"))).unwrap();
        assert_eq!(note(), (true, "b1".to_owned()));
        let told = Running::begin(&settings(data, Some("b2"))).unwrap_err().to_string();
        let wanted = format!(
            "--bridge b2: the node of {data} was started with --bridge b1 and is not taken down yet: run `windlass down \
             --data-dir {data}` first",
            data = data.display()
        );
        assert_eq!(told, wanted);
        assert!(Running::record(&Settings { run: "/run/other".into(), ..settings(data, None) }).is_err());
        assert!(Running::record(&Settings { cgroup_root: "/other".to_owned(), ..settings(data, None) }).is_err());
        assert_eq!(note(), (true, "b1".to_owned()));
        // The same names, and one that was not given again, are the node's still.
        Running::begin(&settings(data, Some("b1"))).unwrap();
        Running::begin(&settings(data, None)).unwrap();
        Running::record(&Settings { control_plane_only: true, ..settings(data, None) }).unwrap();
        assert_eq!(note(), (true, "b1".to_owned()));
        Running::taken_down(data).unwrap();
        Running::begin(&settings(data, Some("b2"))).unwrap();
        assert_eq!(note(), (false, "b2".to_owned()));
    }

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
