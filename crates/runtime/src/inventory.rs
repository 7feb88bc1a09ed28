//! What there is: adoption of running containers after a restart of this process, listing, figures.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use pods::ports::{ContainerPhase, ContainerStats, ImageUsage, Inventory, RuntimeError};

use crate::container::{self, Record};
use crate::layout::boot_id;
use crate::local::{Entry, Local};
use crate::sandbox;
use crate::shim::wire::Started;

/// Fills the table from disk and reconnects to the shims. What has no sandbox of this boot is removed.
pub async fn adopt(local: &Arc<Local>) -> io::Result<()> {
    let boot = boot_id();
    for directory in std::fs::read_dir(local.layout.sandboxes())? {
        if let Some(sandbox) = sandbox::read(&directory?.path()).filter(|s| s.boot == boot) {
            local.burstable.admit(&local.cgroups, &local.config.cgroup_root, &sandbox.spec)?;
        }
    }
    for directory in std::fs::read_dir(local.layout.containers())? {
        let directory = directory?.path();
        let record = std::fs::read(directory.join("container.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<Record>(&text).ok())
            .filter(|r| {
                let sandbox = sandbox::read(&local.layout.sandbox(&r.spec.id.pod_uid));
                sandbox.is_some_and(|s| s.boot == boot)
            });
        match record {
            Some(record) => adopt_one(local, record, &directory).await,
            None => std::fs::remove_dir_all(&directory)?,
        }
    }
    Ok(())
}

async fn adopt_one(local: &Arc<Local>, record: Record, directory: &Path) {
    let id = record.spec.id.clone();
    let started =
        || -> Option<Started> { serde_json::from_slice(&std::fs::read(directory.join("state.json")).ok()?).ok() };
    let entry = Entry { record: Arc::new(record), started: started(), exit: container::read_exit(local, &id) };
    let ended = entry.exit.is_some();
    local.table().insert(id.clone(), entry);
    if ended {
        return;
    }
    match container::reconnect(&local.layout.socket(&id)).await {
        Some(control) => {
            if let Some(entry) = local.table().get_mut(&id) {
                // A shim that was still starting has written it by now.
                entry.started = started();
            }
            tokio::spawn(container::watch(Arc::downgrade(local), id, control));
        }
        None => {
            // It may have ended between the look at its file and the connection.
            let exit = match (container::read_exit(local, &id), started()) {
                (Some(exit), _) => Some(exit),
                (None, Some(_)) => Some(container::lost(local, &id).await),
                (None, None) => None,
            };
            if let Some(entry) = local.table().get_mut(&id) {
                entry.exit = exit;
            }
        }
    }
}

pub fn list(local: &Local) -> Result<Vec<Inventory>, RuntimeError> {
    let boot = boot_id();
    let entries = std::fs::read_dir(local.layout.sandboxes()).map_err(crate::local::broken)?;
    let mut by_pod: BTreeMap<String, Inventory> = BTreeMap::new();
    for directory in entries.flatten().map(|e| e.path()) {
        if let Some(record) = sandbox::read(&directory).filter(|r| r.boot == boot) {
            let sandbox = record.sandbox(&directory);
            by_pod.insert(sandbox.pod_uid.clone(), Inventory { sandbox, containers: Vec::new() });
        }
    }
    for entry in local.table().values() {
        if let Some(pod) = by_pod.get_mut(&entry.record.spec.id.pod_uid) {
            pod.containers.push(entry.state());
        }
    }
    let mut all: Vec<Inventory> = by_pod.into_values().collect();
    for pod in &mut all {
        pod.containers.sort_by(|a, b| a.id.cmp(&b.id));
    }
    Ok(all)
}

pub fn stats(local: &Local) -> Vec<ContainerStats> {
    let running: Vec<Entry> =
        local.table().values().filter(|e| e.phase() == ContainerPhase::Running).cloned().collect();
    running
        .into_iter()
        .map(|entry| {
            let id = entry.record.spec.id.clone();
            let rootfs_used_bytes = used_bytes(&local.layout.container(&id).join("upper"));
            let figures = local.cgroups.stats(&entry.record.cgroup);
            ContainerStats { id: Some(id), at: jiff::Timestamp::now(), rootfs_used_bytes, ..figures }
        })
        .collect()
}

/// Bytes of disk below a directory. Files that vanish meanwhile count nothing.
fn used_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match std::fs::symlink_metadata(entry.path()) {
            Ok(found) if found.is_dir() => found.blocks() * 512 + used_bytes(&entry.path()),
            Ok(found) => found.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

pub fn usage(local: &Local) -> io::Result<ImageUsage> {
    let disk = rustix::fs::statvfs(&local.config.data)?;
    Ok(ImageUsage {
        image_bytes: local.images.store.used_bytes(),
        capacity_bytes: disk.f_blocks * disk.f_frsize,
        available_bytes: disk.f_bavail * disk.f_frsize,
        inodes: disk.f_files,
        inodes_free: disk.f_ffree,
    })
}
