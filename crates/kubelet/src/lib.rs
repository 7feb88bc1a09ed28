//! The kubelet: it takes the pods of one node from the API server and from files, runs each in a task of its own around
//! the pure worker of `pods`, and tells the API server how the node and its pods are.
//!
//! It knows no container runtime and no network: both are ports, handed to it. It decides nothing about a pod's life: the
//! worker does, and this crate carries out. Start reading at `kubelet::Kubelet::run`, then `task`.

mod certificates;
mod config;
mod container_spec;
mod effects;
mod events;
mod files;
mod garbage;
mod host;
mod images;
mod kubelet;
mod logs;
mod machine;
mod metrics;
mod mirrors;
mod node;
mod objects;
mod pressure;
mod probes;
mod server;
mod static_pods;
mod status_writer;
pub mod streaming;
mod task;
#[cfg(test)]
mod tests;
mod tokens;
mod volumes;
mod watch;

pub use config::KubeletConfig;
pub use kubelet::{Kubelet, KubeletError};

/// What an API error says, without the client's wrapping.
pub(crate) fn api_error(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
