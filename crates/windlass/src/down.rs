//! `windlass down` and `windlass reset`: nothing that `up` made is left behind.

use std::io::{BufRead, ErrorKind, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bootstrap::kubeconfig::{self, CONTEXT};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use store::DirectoryLock;

use crate::config::Settings;
use crate::join::Joined;
use crate::progress::Progress;
use crate::running::Running;

/// How long a running node may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    check_owner(settings)?;
    take_down(settings, &Progress::new()).map(drop)
}

pub fn reset(settings: &Settings, yes: bool) -> anyhow::Result<()> {
    // Everything that can be refused is refused before anything is deleted.
    check_owner(settings)?;
    check_contents(&settings.data)?;
    if !yes && !confirmed(&settings.data)? {
        bail!("nothing was deleted");
    }
    let progress = Progress::new();
    let note = Running::read(&settings.data)?;
    let lock = take_down(settings, &progress)?;
    kubelet::Kubelet::forget_pods(&settings.data, &settings.pod_logs).context("cannot remove the pods' logs")?;
    remove_if_empty(&settings.pod_logs)?;
    // A node that has joined wrote no kubeconfig but its own: others lead to the cluster, which goes on.
    let joined = Joined::read(&settings.data)?;
    if let Some(joined) = &joined {
        progress.note(format_args!(
            "the cluster at {} still knows this node: kubectl delete node {}",
            joined.server, joined.node_name
        ));
    } else if let Some(ca) = bootstrap::files::read_if_present(&settings.data.join("pki/ca.crt"))? {
        let merged_into = note.and_then(|note| note.merged_into).or_else(|| settings.merge_into.clone());
        forget_kubeconfigs(&settings.kubeconfig, merged_into.as_deref(), &ca, &progress)?;
    }
    delete(&settings.data).with_context(|| format!("cannot delete {}", settings.data.display()))?;
    drop(lock);
    progress.done("data", format_args!("{} deleted", settings.data.display()));
    Ok(())
}

/// Whether this user may take down what was started on the data directory.
fn check_owner(settings: &Settings) -> anyhow::Result<()> {
    let data = &settings.data;
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let started_by_root =
        || format!("{} belongs to a node that root started: run this as root (sudo windlass ...)", data.display());
    match std::fs::metadata(data) {
        Ok(metadata) if metadata.uid() != rustix::process::geteuid().as_raw() => bail!(started_by_root()),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).with_context(|| data.display().to_string()),
        _ if Running::read(data)?.is_some_and(|note| note.node) => bail!(started_by_root()),
        _ => Ok(()),
    }
}

/// Whether a directory that is to be deleted is a data directory: one with our note. Others have a `pki` too.
fn check_contents(data: &Path) -> anyhow::Result<()> {
    match std::fs::read_dir(data) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{}: there is no such data directory", data.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", data.display())),
        Ok(_) => {}
    }
    if Running::read(data)?.is_none() {
        bail!("{} is no data directory of Windlass; nothing was deleted", data.display());
    }
    Ok(())
}

/// Deletes the data directory, the note in it after all else: a reset that failed can be repeated.
fn delete(data: &Path) -> std::io::Result<()> {
    let note = Running::path(data);
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        if entry.path() == note {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_file(note)?;
    std::fs::remove_dir_all(data)
}

fn forget_kubeconfigs(own: &Path, merged_into: Option<&Path>, ca: &str, progress: &Progress) -> anyhow::Result<()> {
    if kubeconfig::delete(own, ca)? {
        progress.done("kubeconfig", format_args!("{} deleted", own.display()));
    }
    if own.parent() == Some(Path::new("/etc/windlass")) {
        remove_if_empty(Path::new("/etc/windlass"))?;
    }
    let Some(user) = merged_into else { return Ok(()) };
    match kubeconfig::remove_from(user, ca) {
        Ok(true) => progress.done("kubeconfig", format_args!("context {CONTEXT:?} taken out of {}", user.display())),
        Ok(false) => {}
        // The user may have changed it into something that is no kubeconfig: that is theirs.
        Err(error) => eprintln!("windlass: {error} (left as it is)"),
    }
    Ok(())
}

fn confirmed(data: &Path) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("this deletes {}: say --yes to mean it", data.display());
    }
    print!("Delete {} and everything in the cluster? [y/N] ", data.display());
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Ends the process that runs on the data directory, and removes what it made of this host if that was a node. No other
/// process can start there while the answer lives.
fn take_down(settings: &Settings, progress: &Progress) -> anyhow::Result<Option<DirectoryLock>> {
    if !settings.data.exists() {
        progress.note(format_args!("nothing was started on {}", settings.data.display()));
        return Ok(None);
    }
    if let Some(note) = Running::read(&settings.data)? {
        note.check_names(settings)?;
    }
    stop_process(settings, progress)?;
    let lock = DirectoryLock::take(&settings.data)?;
    if Running::read(&settings.data)?.is_some_and(|note| note.node) {
        remove_node(settings, progress)?;
        Joined::taken_down(&settings.data)?;
        Running::taken_down(&settings.data)?;
    }
    Ok(Some(lock))
}

fn stop_process(settings: &Settings, progress: &Progress) -> anyhow::Result<()> {
    let Some(pid) = Running::read(&settings.data)?.and_then(|note| Pid::from_raw(i32::try_from(note.process()?).ok()?))
    else {
        return Ok(());
    };
    // A descriptor of the process, so that the signal cannot reach another that got its number.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error).context("cannot reach the running node"),
    };
    pidfd_send_signal(&process, Signal::TERM).context("cannot stop the running node")?;
    let limit = rustix::event::Timespec { tv_sec: PATIENCE.as_secs().try_into()?, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit))?;
    if ended == 0 {
        pidfd_send_signal(&process, Signal::KILL).context("cannot kill the running node")?;
        poll(&mut [PollFd::new(&process, PollFlags::IN)], None)?;
        progress.done("process", format_args!("{} killed, it did not end within {PATIENCE:?}", pid.as_raw_nonzero()));
    } else {
        progress.done("process", format_args!("{} stopped", pid.as_raw_nonzero()));
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn remove_node(settings: &Settings, progress: &Progress) -> anyhow::Result<()> {
    // A node of another data directory may be using the same one.
    let lock = DirectoryLock::take(&settings.run)?;
    let runtime = runtime::Containers::open(settings.runtime()).await?;
    runtime.cleanup_everything().await.context("cannot remove every container")?;
    drop(runtime);
    kubelet::Kubelet::cleanup(&settings.data).context("cannot remove the pods' volumes")?;
    progress.done("containers", "removed, with their mounts, namespaces and cgroups");
    net::NodeRoutes::cleanup(&settings.node_routes(), &settings.bridge)
        .context("cannot remove routes to other nodes")?;
    net::BridgeNetwork::cleanup(&settings.bridge(settings.cluster_range)).context("cannot remove the pod network")?;
    net::ServiceProxy::cleanup(&settings.proxy()).context("cannot remove the service rules")?;
    net::NetworkPolicies::cleanup(&settings.policies()).context("cannot remove the network policies")?;
    progress.done("network", "interfaces, addresses and rules removed");
    lock.remove()?;
    runtime::remove_run_dir(&settings.run).with_context(|| format!("cannot delete {}", settings.run.display()))
}

fn remove_if_empty(directory: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir(directory) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(error).with_context(|| format!("cannot delete {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Options;

    fn settings(data: &Path) -> Settings {
        let options =
            Options { data_dir: Some(data.to_owned()), node_name: Some("n".to_owned()), ..Options::default() };
        options.resolve().unwrap()
    }

    #[test]
    fn only_a_directory_with_our_note_is_a_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let told = || check_contents(data).unwrap_err().to_string();
        assert!(told().contains("is no data directory of Windlass; nothing was deleted"), "{}", told());
        for name in ["pki", "store", "images"] {
            std::fs::create_dir(data.join(name)).unwrap();
        }
        assert!(told().contains("is no data directory of Windlass; nothing was deleted"), "{}", told());
        let settings = settings(data);
        std::fs::write(data.join("up.json"), "{}").unwrap();
        assert!(told().contains("up.json: not a note of ours"), "{}", told());
        std::fs::remove_file(data.join("up.json")).unwrap();
        Running::begin(&settings).unwrap();
        check_contents(data).unwrap();
    }

    #[test]
    fn a_data_directory_is_deleted_whole_and_what_it_links_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (data, other) = (dir.path().join("data"), dir.path().join("other"));
        std::fs::create_dir_all(data.join("store/deep")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("file"), "kept").unwrap();
        std::os::unix::fs::symlink(&other, data.join("link")).unwrap();
        Running::begin(&settings(&data)).unwrap();
        delete(&data).unwrap();
        assert!(!data.exists() && other.join("file").exists());
    }
}
