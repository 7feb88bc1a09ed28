//! The note that a running node leaves for `down`: its process id.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::Settings;

pub struct Running {
    path: PathBuf,
}

impl Running {
    fn path(settings: &Settings) -> PathBuf {
        settings.data.join("up.pid")
    }

    /// Writes the note. The store's lock has made sure that no other process runs on this data.
    pub fn record(settings: &Settings) -> anyhow::Result<Self> {
        let path = Self::path(settings);
        bootstrap::files::write_file(&path, std::process::id().to_string().as_bytes(), 0o644)?;
        Ok(Self { path })
    }

    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "note of the running process not removed");
        }
    }

    /// The process that runs on this data, if it still does and still is this program.
    pub fn find(settings: &Settings) -> anyhow::Result<Option<u32>> {
        let path = Self::path(settings);
        let Some(text) = bootstrap::files::read_if_present(&path)? else { return Ok(None) };
        let pid: u32 = text.trim().parse().with_context(|| format!("{}: not a process id", path.display()))?;
        // A stale note may name a process id that belongs to something else by now.
        let name = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"));
        Ok(name.is_ok_and(|name| name.trim() == "windlass").then_some(pid))
    }
}
