//! Taking away: one pod's sandbox, or everything that this runtime ever made.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use pods::ports::{ContainerId, ContainerPhase, RuntimeError};
use rustix::mount::{UnmountFlags, unmount};

use crate::container;
use crate::local::{Local, blocking, broken};
use crate::sandbox;

/// Shims get this long to write down how their killed containers ended.
const SHIM_PATIENCE: Duration = Duration::from_secs(5);

pub async fn remove_sandbox(local: &Arc<Local>, pod_uid: &str) -> Result<(), RuntimeError> {
    let mut exits = local.watch_exits();
    let of_pod: Vec<(ContainerId, bool)> = local
        .table()
        .iter()
        .filter(|(id, _)| id.pod_uid == pod_uid)
        .map(|(id, e)| (id.clone(), e.phase() == ContainerPhase::Running))
        .collect();
    let (shared, uid) = (local.clone(), pod_uid.to_owned());
    blocking(move || {
        let Some(record) = sandbox::read(&shared.layout.sandbox(&uid)) else { return Ok(()) };
        shared.cgroups.kill(&record.cgroup, Duration::from_secs(10)).map_err(broken)
    })
    .await?;
    let mut waiting: Vec<ContainerId> = of_pod.iter().filter(|(_, r)| *r).map(|(id, _)| id.clone()).collect();
    let all_ended = async {
        // Whoever ended between the two looks is in the table already.
        waiting.retain(|id| local.running(id).is_ok());
        while !waiting.is_empty() {
            let Some((id, _)) = exits.next().await else { break };
            waiting.retain(|w| *w != id);
        }
    };
    tokio::time::timeout(SHIM_PATIENCE, all_ended).await.map_err(|_| broken("a container's shim does not end"))?;
    let (shared, uid) = (local.clone(), pod_uid.to_owned());
    blocking(move || {
        for (id, _) in &of_pod {
            container::remove(&shared, id)?;
        }
        sandbox::remove(&shared, &uid).map_err(broken)
    })
    .await
}

pub async fn cleanup_everything(local: &Arc<Local>) -> Result<(), RuntimeError> {
    let mut first_error = None;
    for uid in local.sandbox_uids() {
        if let Err(e) = remove_sandbox(local, &uid).await {
            first_error.get_or_insert(e);
        }
    }
    let shared = local.clone();
    let swept = blocking(move || shared.sweep().map_err(broken)).await;
    first_error.or(swept.err()).map_or(Ok(()), Err)
}

impl Local {
    fn sandbox_uids(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.layout.sandboxes()) else { return Vec::new() };
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    /// What remains when all sandboxes are gone.
    fn sweep(&self) -> io::Result<()> {
        // Everything that is still in a group of ours, shims of containers that nobody knows any more included.
        self.cgroups.kill(&self.config.cgroup_root, Duration::from_secs(10))?;
        self.cgroups.remove(&self.config.cgroup_root)?;
        match unmount(self.layout.root_mount(), UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        for directory in [self.layout.containers(), self.layout.sandboxes(), self.layout.run.join("c")] {
            match std::fs::remove_dir_all(&directory) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        self.layout.create()
    }
}
