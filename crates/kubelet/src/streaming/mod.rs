//! Exec, attach and port-forward: the seam between the kubelet's API and the streaming protocols (WebSocket v4 and v5,
//! SPDY/3.1). The server has authorized the request and found the container; what goes over the wire is decided here.
//!
//! `upgrade` agrees on a protocol; `websocket` and `spdy_command` make a client of a connection, which `session` serves;
//! `port_forward` and `port_channels` forward connections; `spdy` is the framing that three of them share.

mod dial;
mod port_channels;
mod port_forward;
mod session;
mod spdy;
mod spdy_command;
#[cfg(test)]
mod tests;
mod upgrade;
mod websocket;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pods::ports::{ContainerId, ExecSpec, Runtime, RuntimeError, Session};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::server::{Body, text};
use port_forward::Target;
use spdy::Connection;
use upgrade::{Agreed, Offer, Transport, agree};

const COMMANDS: Offer =
    Offer { websocket: &[websocket::V5, websocket::V4, websocket::V1, ""], spdy: spdy_command::PROTOCOLS };
const PORTS: Offer =
    Offer { websocket: &[port_forward::TUNNEL_PROTOCOL, websocket::V4, ""], spdy: &[port_forward::PROTOCOL] };

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
        let tty = is(&["tty"]);
        StreamOptions {
            command: query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect(),
            stdin: is(&["input", "stdin"]),
            stdout: is(&["output", "stdout"]),
            // A terminal has one output.
            stderr: is(&["error", "stderr"]) && !tty,
            tty,
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
    let spec = ExecSpec {
        argv: options.command.clone(),
        tty: options.tty,
        stdin: options.stdin,
        stdout: options.stdout,
        stderr: options.stderr,
    };
    let open = async move { runtime.exec(&container, &spec).await };
    serve_command(request, options, "error executing command in container", open)
}

/// Connects to a container's own process.
pub async fn serve_attach(
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    container: ContainerId,
    options: StreamOptions,
) -> Response<Body> {
    let stdin = options.stdin;
    let open = async move {
        // An attach ends with its container, and that is no failure whatever the container's exit code.
        let session = runtime.attach(&container, stdin).await?;
        let exit = session.exit;
        Ok(Session { exit: Box::pin(async move { exit.await.map(|_| 0) }), ..session })
    };
    serve_command(request, options, "error attaching to container", open)
}

fn serve_command(
    mut request: Request<Incoming>,
    options: StreamOptions,
    failure: &'static str,
    open: impl Future<Output = Result<Session, RuntimeError>> + Send + 'static,
) -> Response<Body> {
    if !(options.stdin || options.stdout || options.stderr) {
        return text(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr");
    }
    let Agreed { transport, protocol, response } = match agree(request.headers(), &COMMANDS) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let upgraded = hyper::upgrade::on(&mut request);
    spawn(upgraded, move |io| command(io, transport, protocol, options, failure, open));
    response
}

/// Serves one exec or attach on a connection that has switched protocols.
async fn command<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    io: IO,
    transport: Transport,
    protocol: &str,
    options: StreamOptions,
    failure: &str,
    open: impl Future<Output = Result<Session, RuntimeError>>,
) -> io::Result<()> {
    let client = match transport {
        Transport::WebSocket => websocket::client(io, protocol, &options).await?,
        Transport::Spdy => {
            let (read, write) = tokio::io::split(io);
            spdy_command::client(Connection::serve(read, write)?, protocol, &options).await?
        }
    };
    session::stream(client, &options, failure, open).await;
    Ok(())
}

/// Forwards connections to ports of a pod, within its network namespace (`None`: the host's). `ports` are those of the
/// query; SPDY clients name theirs in each stream's headers.
pub async fn serve_port_forward(
    mut request: Request<Incoming>,
    network_namespace: Option<PathBuf>,
    ports: Vec<u16>,
) -> Response<Body> {
    let Agreed { transport, protocol, response } = match agree(request.headers(), &PORTS) {
        Ok(agreed) => agreed,
        Err(refusal) => return *refusal,
    };
    let channels = transport == Transport::WebSocket && protocol != port_forward::TUNNEL_PROTOCOL;
    if channels && ports.is_empty() {
        return text(StatusCode::BAD_REQUEST, "query parameter \"port\" is required");
    }
    if channels && ports.contains(&0) {
        return text(StatusCode::BAD_REQUEST, "port \"0\" must be > 0");
    }
    // `/portForward/{namespace}/{pod}`
    let pod = request.uri().path().split('/').nth(3).unwrap_or_default().to_string();
    let target = Target { pod, network_namespace };
    let upgraded = hyper::upgrade::on(&mut request);
    spawn(upgraded, move |io| forward(io, transport, protocol, ports, target));
    response
}

/// Serves a port-forward on a connection that has switched protocols.
async fn forward<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    io: IO,
    transport: Transport,
    protocol: &str,
    ports: Vec<u16>,
    target: Target,
) -> io::Result<()> {
    match (transport, protocol) {
        (Transport::Spdy, _) => {
            let (read, write) = tokio::io::split(io);
            port_forward::serve(Connection::serve(read, write)?, target).await;
        }
        (Transport::WebSocket, port_forward::TUNNEL_PROTOCOL) => {
            let (read, write) = websocket::tunnel(websocket::accept(io).await);
            port_forward::serve(Connection::serve(read, write)?, target).await;
        }
        (Transport::WebSocket, _) => port_channels::serve(io, &ports, target).await,
    }
    Ok(())
}

/// Goes on with the connection once the answer has been sent.
fn spawn<F, Served>(upgraded: OnUpgrade, serve: F)
where
    F: FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> Served + Send + 'static,
    Served: Future<Output = io::Result<()>> + Send,
{
    tokio::spawn(async move {
        let served = match upgraded.await {
            Ok(connection) => serve(TokioIo::new(connection)).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = served {
            tracing::debug!(%error, "streaming connection");
        }
    });
}
