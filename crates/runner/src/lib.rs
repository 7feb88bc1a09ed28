//! Runs the decisions of `reconcile` and `schedule` against an API server.
//!
//! One reflector per kind fills the shared cache, changes become keys in each controller's queue, plans become
//! requests, and what came of them is told as events. It knows no rule of any controller.

use std::sync::Arc;

pub use reconcile::Settings;

/// How a component runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What the controllers are told about this cluster.
    pub settings: Arc<Settings>,
    /// Take part in a leader election under this identity before doing anything; none: run at once.
    pub leader_identity: Option<String>,
}

/// Why a component stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("lost the lease {0}")]
    LostLease(String),
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// Runs every controller until `stop`.
pub async fn run_controllers(
    _client: kube::Client,
    _options: Options,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Error> {
    stop.cancelled().await;
    Ok(())
}

/// Runs the scheduler until `stop`.
pub async fn run_scheduler(
    _client: kube::Client,
    _options: Options,
    stop: tokio_util::sync::CancellationToken,
) -> Result<(), Error> {
    stop.cancelled().await;
    Ok(())
}
