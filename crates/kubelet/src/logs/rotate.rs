//! Keeping logs small: a file that has grown too big is renamed, and the runtime opens a new one.
//!
//! kubernetes/kubernetes pkg/kubelet/logs/container_log_manager.go: names, limits, and that the youngest rotated file
//! stays plain while the older ones are compressed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pods::ports::ContainerId;

use crate::host::Host;

const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(crate) async fn keep(host: Arc<Host>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        look(&host).await;
    }
}

/// Rotates every log that has grown too big.
pub(crate) async fn look(host: &Host) {
    for (id, log) in running(host) {
        let big = std::fs::metadata(&log).is_ok_and(|meta| meta.len() >= host.config.log_max_bytes);
        if big && let Err(error) = rotate(host, &id, &log).await {
            tracing::warn!(error, log = %log.display(), "log not rotated");
        }
    }
}

/// Logs of containers that run, by what their pods' statuses say.
fn running(host: &Host) -> Vec<(ContainerId, PathBuf)> {
    let mut out = Vec::new();
    for (uid, known) in host.pods().iter() {
        let Some(status) = &known.status else { continue };
        let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        for status in lists.into_iter().flat_map(|list| list.iter().flatten()) {
            if status.state.as_ref().is_some_and(|state| state.running.is_some()) {
                let attempt = status.restart_count.max(0) as u32;
                let log = host.pod_log_dir(&known.pod).join(&status.name).join(format!("{attempt}.log"));
                out.push((ContainerId { pod_uid: uid.clone(), name: status.name.clone(), attempt }, log));
            }
        }
    }
    out
}

async fn rotate(host: &Host, id: &ContainerId, log: &Path) -> Result<(), String> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = PathBuf::from(format!("{}.{stamp}", log.display()));
    let told = |error: std::io::Error| error.to_string();
    let older = super::rotated(log);
    std::fs::rename(log, &aside).map_err(told)?;
    if let Err(error) = host.runtime.reopen_log(id).await {
        // The writer still has the file under its old name; give it back.
        std::fs::rename(&aside, log).map_err(told)?;
        return Err(error.to_string());
    }
    let keep = host.config.log_max_files.saturating_sub(2);
    let work = move || -> std::io::Result<()> {
        let surplus = older.len().saturating_sub(keep);
        for file in &older[..surplus] {
            std::fs::remove_file(file)?;
        }
        for file in older[surplus..].iter().filter(|file| file.extension().is_none_or(|e| e != "gz")) {
            compress(file)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?.map_err(told)
}

fn compress(file: &Path) -> std::io::Result<()> {
    let packed = PathBuf::from(format!("{}.gz", file.display()));
    let mut to = flate2::write::GzEncoder::new(std::fs::File::create(&packed)?, flate2::Compression::default());
    std::io::copy(&mut std::fs::File::open(file)?, &mut to)?;
    to.finish()?.flush()?;
    std::fs::remove_file(file)
}
