//! Asking a container for its health: the three ways a probe ends.
//!
//! kubernetes/kubernetes pkg/probe: what counts as success, and the words of a failure.

mod exec;
mod grpc;
mod http;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use journal::{Obstacle, Outcome, Symptom};
use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pods::ports::{ContainerId, Runtime};

pub(crate) use exec::{Ran, run_command};
pub(crate) use http::{get, target};

/// Longest output that an event or a record carries (pkg/probe/exec: maxReadLength).
pub(crate) const OUTPUT_MAX: usize = 10 << 10;

/// What a probe came to.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// What upstream's event says after `probe failed: `.
    pub(crate) output: String,
    pub(crate) took_ms: u64,
}

/// What a probe is asked of.
pub(crate) struct Asked<'a> {
    pub(crate) runtime: &'a dyn Runtime,
    pub(crate) id: &'a ContainerId,
    pub(crate) container: &'a Container,
    pub(crate) address: Option<IpAddr>,
}

/// Runs one attempt.
pub(crate) async fn ask(asked: &Asked<'_>, probe: &Probe) -> Answer {
    let limit = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1) as u64);
    let begun = Instant::now();
    let (outcome, output) = attempt(asked, probe, limit).await;
    Answer { outcome, output, took_ms: begun.elapsed().as_millis() as u64 }
}

type Told = (Outcome, String);

async fn attempt(asked: &Asked<'_>, probe: &Probe, limit: Duration) -> Told {
    if let Some(exec) = &probe.exec {
        return exec::ask(asked, exec.command.clone().unwrap_or_default(), limit).await;
    }
    let Some(address) = asked.address else {
        let error = "the pod has no address".to_string();
        return not_asked(Obstacle::NamespaceGone { error });
    };
    if let Some(action) = &probe.http_get {
        return match http::target(action, asked.container, address) {
            Ok(target) => http::ask(&target, limit).await,
            Err(error) => not_asked(Obstacle::RuntimeError { error }),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty());
        let port = match port(&action.port, asked.container) {
            Ok(port) => port,
            Err(error) => return not_asked(Obstacle::RuntimeError { error }),
        };
        let host = host.map_or_else(|| address.to_string(), str::to_string);
        return match http::connect(&host, port, limit).await {
            Ok(_) => (Outcome::Healthy, String::new()),
            Err(told) => told,
        };
    }
    if let Some(action) = &probe.grpc {
        let service = action.service.as_deref().unwrap_or_default();
        return grpc::ask(address, action.port as u16, service, limit).await;
    }
    not_asked(Obstacle::RuntimeError { error: "missing probe handler".into() })
}

pub(crate) fn not_asked(obstacle: Obstacle) -> Told {
    let output = obstacle.to_string();
    (Outcome::NotAsked(obstacle), output)
}

pub(crate) fn unhealthy(symptom: Symptom, output: String) -> Told {
    (Outcome::Unhealthy(symptom), output)
}

/// The number of a port, which may be named in the container's spec.
///
/// # Errors
/// No port has this name.
pub(crate) fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let named = |name: &str| {
        let of_name = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
        of_name.map(|port| port.container_port)
    };
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => named(text).or_else(|| text.parse().ok()),
    };
    let number = number.ok_or_else(|| format!("couldn't find port: {port:?} in container {}", container.name))?;
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}
