//! `windlass up`: everything in one process, in the order in which one part needs another.

mod control_plane;
mod keys;
mod node;
mod running;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use bootstrap::kubeconfig::{self, Access};
use bootstrap::pki::{Names, Pki, Subject};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::user_kubeconfig;
use crate::config::Settings;
use crate::progress::Progress;

pub use running::Running;

/// The administrator of a new cluster; the group is allowed everything.
const ADMIN: Subject = Subject { user: "kubernetes-admin", groups: &["system:masters"] };

pub fn run(settings: Settings, control_plane_only: bool) -> anyhow::Result<()> {
    if !control_plane_only && !rustix::process::geteuid().is_root() {
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
    runtime.block_on(up(&settings, control_plane_only))
}

async fn up(settings: &Settings, control_plane_only: bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    let progress = Progress::new();
    let stop = CancellationToken::new();
    let pki = certificates(settings, &progress)?;
    let listener = bind(settings.api).await?;
    let journal: Arc<dyn journal::Journal> =
        Arc::new(store::JournalRing::open(settings.journal(), store::journal_ring::DEFAULT_BYTES)?);
    let server = control_plane::start(settings, &pki, &journal, &progress, &stop).await?;
    Running::record(settings)?;
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener).await }
    });
    progress.done("API server", settings.server_url());
    let access = Access {
        server: &settings.server_url(),
        ca_certificate: &pki.ca.certificate,
        user: ADMIN.user,
        client: &pki.issue_client(ADMIN, Timestamp::now())?,
    };
    let merged = write_kubeconfigs(settings, &access)?;
    let mut components = control_plane::run_components(settings, &pki, &server, &journal, &stop)?;
    if !control_plane_only {
        node::start(settings, &pki, &server, journal, &progress, &stop, &mut components).await?;
    }
    let also = if merged {
        format!("      (context {:?} also merged into ~/.kube/config)", kubeconfig::CONTEXT)
    } else {
        String::new()
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

fn certificates(settings: &Settings, progress: &Progress) -> anyhow::Result<Pki> {
    bootstrap::files::make_private_dir(&settings.data)?;
    let directory = settings.data.join("pki");
    let names = Names {
        node: settings.node_name.clone(),
        node_addresses: vec![settings.node_ip],
        extra: settings.tls_san.clone(),
        service_address: settings.kubernetes_address(),
        cluster_domain: settings.cluster_domain.clone(),
    };
    let pki = Pki::ensure(&directory, &names, Timestamp::now())?;
    let made = if pki.made.is_empty() { String::new() } else { format!("  (made: {})", pki.made.join(", ")) };
    progress.done("certificates", format_args!("{}{made}", directory.display()));
    Ok(pki)
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

/// Writes our kubeconfig and, unless told not to, the user's. Answers whether the latter was done.
fn write_kubeconfigs(settings: &Settings, access: &Access) -> anyhow::Result<bool> {
    kubeconfig::write(&settings.kubeconfig, access)?;
    let Some(user) = user_kubeconfig().filter(|_| settings.merge_kubeconfig) else { return Ok(false) };
    match kubeconfig::merge_into(&user, access) {
        Ok(()) => Ok(true),
        // The cluster is usable without it: say so and go on.
        Err(error) => {
            eprintln!("windlass: {error} (left as it is)");
            Ok(false)
        }
    }
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
