//! `windlass up`: everything in one process, in the order in which one part needs another.

mod certificates;
mod control_plane;
mod etcd;
mod keys;
mod node;
mod running;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use bootstrap::kubeconfig;
use store::DirectoryLock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::progress::Progress;
use certificates::Certificates;

pub use running::Running;

pub fn run(settings: &Settings) -> anyhow::Result<()> {
    if settings.runs_node() && !rustix::process::geteuid().is_root() {
        bail!(
            "a node needs root (containers, mounts, network): run `sudo windlass up`, or `windlass up --control-plane-only` \
             for an API server without a node"
        );
    }
    // One provider of cryptography for the whole process; an earlier choice cannot have been made.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("the TLS provider was already chosen");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .build()
        .context("cannot start the asynchronous runtime")?;
    runtime.block_on(up(settings))
}

async fn up(settings: &Settings) -> anyhow::Result<()> {
    let begun = Instant::now();
    let progress = Progress::new();
    let stop = CancellationToken::new();
    let _alone = lock(settings)?;
    let certificates = Certificates::ensure(settings, &progress)?;
    let listener = bind(settings.api).await?;
    Running::record(settings)?;
    let journal: Arc<dyn journal::Journal> =
        Arc::new(store::JournalRing::open(settings.journal(), store::journal_ring::DEFAULT_BYTES)?);
    let server = control_plane::start(settings, &certificates, &journal, &progress, &stop).await?;
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    progress.done("API server", settings.server_url());
    let merged = certificates.write_kubeconfigs()?;
    let mut components = control_plane::run_components(settings, &certificates.pki, &server, &journal, &stop)?;
    if settings.runs_node() {
        node::start(settings, &certificates, &server, journal, &progress, &stop, &mut components).await?;
    }
    tokio::spawn(certificates.keep(stop.clone()));
    let also = match settings.merge_into.as_ref().filter(|_| merged) {
        Some(user) => format!("      (context {:?} also merged into {})", kubeconfig::CONTEXT, user.display()),
        None => String::new(),
    };
    progress.note(format_args!("kubectl:  export KUBECONFIG={}{also}", settings.kubeconfig.display()));
    tracing::info!(elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), "up");
    let ended = until_stopped(components).await;
    stop.cancel();
    server.stop();
    if let Err(error) = serving.await {
        tracing::warn!(%error, "the API server did not end well");
    }
    ended
}

/// The directories that no other node may use, held for as long as the answer lives. The data directory has our note then.
fn lock(settings: &Settings) -> anyhow::Result<Vec<DirectoryLock>> {
    let mut held = vec![DirectoryLock::take(&settings.data)?];
    // At once: an `up` that fails from here on is still known to `reset`.
    Running::begin(settings)?;
    if settings.runs_node() {
        held.push(DirectoryLock::take(&settings.run)?);
    }
    Ok(held)
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {} is already in use: another API server runs here (windlass down stops ours); or choose another with --secure-port",
            address.port()
        ),
        std::io::ErrorKind::PermissionDenied => anyhow::anyhow!("port {} may not be used without root", address.port()),
        _ => anyhow::anyhow!("cannot listen on {address}: {error}"),
    })
}

/// Waits for a signal to stop, or for a component that ended by itself, which is a fault.
async fn until_stopped(mut components: Components) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        Some(ended) = components.join_next() => match ended {
            Ok((name, Ok(()))) => bail!("{name} ended by itself"),
            Ok((name, Err(error))) => Err(error.context(format!("{name} failed"))),
            Err(error) => bail!("a component failed: {error}"),
        },
    }
}

/// A component's task, by name.
pub type Components = tokio::task::JoinSet<(&'static str, anyhow::Result<()>)>;
