//! Exec, attach and port-forward: the seam between the kubelet's API and the streaming protocols (WebSocket v4 and v5,
//! SPDY/3.1). The server has authorized the request and found the container; what goes over the wire is decided here.

use std::path::PathBuf;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use pods::ports::{ContainerId, Runtime};

use crate::server::{Body, text};

/// What an exec or attach request asks for: the query of upstream's streaming requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamOptions {
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl StreamOptions {
    /// kubernetes/kubernetes pkg/kubelet/server/remotecommand: `command` may be repeated, `input`, `output`, `error` and
    /// `tty` are `1`; the API server's own names (`stdin`, `stdout`, `stderr`) are understood too.
    pub fn parse(query: &[(String, String)]) -> StreamOptions {
        let is = |names: &[&str]| {
            query.iter().any(|(name, value)| names.contains(&name.as_str()) && (value == "1" || value == "true"))
        };
        StreamOptions {
            command: query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect(),
            stdin: is(&["input", "stdin"]),
            stdout: is(&["output", "stdout"]),
            stderr: is(&["error", "stderr"]),
            tty: is(&["tty"]),
        }
    }
}

/// Runs a command in a container and streams it.
pub async fn serve_exec(
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    container: ContainerId,
    options: StreamOptions,
) -> Response<Body> {
    let _ = (request, runtime, container, options);
    not_here("exec")
}

/// Connects to a container's own process.
pub async fn serve_attach(
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    container: ContainerId,
    options: StreamOptions,
) -> Response<Body> {
    let _ = (request, runtime, container, options);
    not_here("attach")
}

/// Forwards connections to ports of a pod, within its network namespace (`None`: the host's). `ports` are those of the
/// query; SPDY clients name theirs in each stream's headers.
pub async fn serve_port_forward(
    request: Request<Incoming>,
    network_namespace: Option<PathBuf>,
    ports: Vec<u16>,
) -> Response<Body> {
    let _ = (request, network_namespace, ports);
    not_here("port-forward")
}

fn not_here(what: &str) -> Response<Body> {
    text(StatusCode::NOT_IMPLEMENTED, format!("{what}: no streaming protocol is served\n"))
}
