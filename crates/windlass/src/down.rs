//! `windlass down` and `windlass reset`: nothing that `up` made is left behind.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::config::Settings;
use crate::progress::Progress;
use crate::up::Running;

/// How long a running node may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let progress = Progress::new();
    stop_process(settings, &progress)?;
    if rustix::process::geteuid().is_root() {
        remove_node(settings, &progress)?;
    }
    Running::remove(&settings.data)
}

pub fn reset(settings: &Settings, yes: bool) -> anyhow::Result<()> {
    if !yes && !confirmed(&settings.data)? {
        bail!("nothing was deleted");
    }
    run(settings)?;
    let progress = Progress::new();
    remove(&settings.data)?;
    remove(&settings.pod_logs)?;
    progress.done("data", format_args!("{} deleted", settings.data.display()));
    if settings.kubeconfig.exists() {
        std::fs::remove_file(&settings.kubeconfig)
            .with_context(|| format!("cannot delete {}", settings.kubeconfig.display()))?;
    }
    if let Some(user) = crate::cli::user_kubeconfig().filter(|_| settings.merge_kubeconfig) {
        bootstrap::kubeconfig::remove_from(&user)?;
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
    if settings.data.join("images").exists() || settings.run.exists() {
        let runtime = runtime::Containers::open(settings.runtime()).await?;
        runtime.cleanup_everything().await.context("cannot remove every container")?;
        drop(runtime);
        kubelet::Kubelet::cleanup(&settings.data).context("cannot remove the pods' volumes")?;
        progress.done("containers", "removed, with their mounts, namespaces and cgroups");
    }
    net::BridgeNetwork::cleanup(&settings.bridge()).context("cannot remove the pod network")?;
    net::ServiceProxy::cleanup(&settings.proxy()).context("cannot remove the service rules")?;
    net::NetworkPolicies::cleanup(&settings.policies()).context("cannot remove the network policies")?;
    progress.done("network", "interfaces, addresses and rules removed");
    remove(&settings.run)
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}
