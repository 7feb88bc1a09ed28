//! Runs the decisions of `reconcile` and `schedule` against an API server.
//!
//! One reflector per kind fills the shared cache, changes become keys in each controller's queue, plans become
//! requests, and what came of them is told as events. It knows no rule of any controller. Everything is driven by
//! changes; with no change in the cluster only discovery is asked again, as the garbage collector needs it.
//!
//! Start with `controllers.rs`, then `execute.rs`.

mod api;
mod approver;
mod collector;
mod controllers;
mod discovery;
mod election;
mod events;
mod execute;
mod namespaces;
mod queue;
mod reflector;
mod scheduler;
mod tasks;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
pub use reconcile::range::Range;
pub use reconcile::settings::PodRanges;
pub use reconcile::{Settings, ports};
use tokio_util::sync::CancellationToken;

/// How a component runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the controllers are told about this cluster.
    pub settings: Arc<Settings>,
    /// Take part in a leader election under this identity before doing anything; none: run at once.
    pub leader_identity: Option<String>,
    /// A client for each controller's own service account; none: all write as the process's user.
    pub accounts: Option<Accounts>,
    /// Told of each pod that the scheduler finds no node for, before anything is written about it.
    pub refused: Option<Refused>,
}

/// Takes a pod and why no node is fit for it.
#[derive(Clone)]
pub struct Refused(Arc<Tell>);

type Tell = dyn Fn(&Pod, &str) + Send + Sync;

impl Refused {
    pub fn new(tell: impl Fn(&Pod, &str) + Send + Sync + 'static) -> Refused {
        Refused(Arc::new(tell))
    }
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refused")
    }
}

/// Gives a client of the API server for a service account in `kube-system`, by its name.
#[derive(Clone)]
pub struct Accounts(Arc<ClientFor>);

/// Why there is none.
pub type NoClient = Box<dyn std::error::Error + Send + Sync>;

type ClientFor = dyn Fn(&str) -> Result<kube::Client, NoClient> + Send + Sync;

impl Accounts {
    pub fn new(client_for: impl Fn(&str) -> Result<kube::Client, NoClient> + Send + Sync + 'static) -> Accounts {
        Accounts(Arc::new(client_for))
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accounts")
    }
}

/// Why a component stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("leader election lost: the lease kube-system/{0} could not be renewed in time")]
    LostLease(&'static str),
    #[error("no client as the service account {account}: {source}")]
    Account { account: &'static str, source: NoClient },
    #[error("{task} ended: {cause}")]
    TaskEnded { task: String, cause: String },
}

/// Runs every controller until `stop`.
pub async fn run_controllers(client: kube::Client, options: Options, stop: CancellationToken) -> Result<(), Error> {
    let work = controllers::run(client.clone(), None, options.clone(), stop.child_token());
    elected(client, "kube-controller-manager", &options, &stop, work).await
}

/// Runs the controllers and the scheduler over one cache until `stop`: for a process that is the whole control plane.
pub async fn run_control_plane(
    controllers: kube::Client,
    scheduler: kube::Client,
    options: Options,
    stop: CancellationToken,
) -> Result<(), Error> {
    controllers::run(controllers, Some(scheduler), options, stop).await
}

/// Runs the scheduler alone until `stop`.
pub async fn run_scheduler(client: kube::Client, options: Options, stop: CancellationToken) -> Result<(), Error> {
    let work = scheduler::run(client.clone(), options.refused.clone(), stop.child_token());
    elected(client, "kube-scheduler", &options, &stop, work).await
}

/// Runs `work` while this process holds the lease, if it takes part in an election at all.
async fn elected(
    client: kube::Client,
    lease: &'static str,
    options: &Options,
    stop: &CancellationToken,
    work: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    let Some(identity) = options.leader_identity.clone() else { return work.await };
    let candidate = election::Candidate { api: api::Api::new(client), name: lease, identity };
    if !candidate.acquire(stop).await {
        return Ok(());
    }
    tokio::select! {
        done = work => {
            if let Err(refusal) = candidate.release().await {
                tracing::warn!(lease, %refusal, "lease not released");
            }
            done
        }
        () = candidate.keep() => Err(Error::LostLease(lease)),
    }
}
