//! What every long-running command is: one process, alone on its directories, until a signal or a fault ends it.

use anyhow::{Context, bail};
use store::DirectoryLock;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Settings;
use crate::running::Running;

/// A component's task, by name.
pub type Components = tokio::task::JoinSet<(&'static str, anyhow::Result<()>)>;

/// Runs to its end on as many threads as make sense here.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // One provider of cryptography for the whole process; an earlier choice cannot have been made.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("the TLS provider was already chosen");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(work)
}

/// The directories that no other node may use, held for as long as the answer lives. The data directory has our note then.
pub fn lock(settings: &Settings) -> anyhow::Result<Vec<DirectoryLock>> {
    let mut held = vec![DirectoryLock::take(&settings.data)?];
    // At once: what fails from here on is still known to `reset`.
    Running::begin(settings)?;
    if settings.runs_node() {
        held.push(DirectoryLock::take(&settings.run)?);
    }
    Ok(held)
}

/// Waits for a signal to stop, or for a component that ended by itself, which is a fault.
pub async fn until_stopped(components: &mut Components) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        fault = fault(components) => Err(fault),
    }
}

/// Waits for a component to end, which none does by itself unless something is wrong.
pub async fn fault(components: &mut Components) -> anyhow::Error {
    match components.join_next().await {
        Some(Ok((name, Ok(())))) => anyhow::anyhow!("{name} ended by itself"),
        Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
        Some(Err(error)) => anyhow::anyhow!("a component failed: {error}"),
        None => std::future::pending().await,
    }
}
