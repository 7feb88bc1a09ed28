//! Port-forward. Over SPDY, and SPDY tunnelled in a WebSocket, a client opens two streams for every connection it
//! forwards: `data`, and `error` for a failure's message. Over a WebSocket with channels there is one connection for
//! each port of the query.
//!
//! k8s.io/cri-streaming pkg/streaming/portforward: headers, pairing, messages.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::dial::dial;
use super::spdy::{Connection, Control, Input, Output, Stream, reset};

pub const PROTOCOL: &str = "portforward.k8s.io";
pub const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

const CREATION_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const READ_BYTES: usize = 32 * 1024;

/// The pod that connections go to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The pod's name, for messages.
    pub pod: String,
    /// `None`: the host's network.
    pub network_namespace: Option<PathBuf>,
}

impl Target {
    pub(super) async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let connected = dial(self.network_namespace.clone(), port).await;
        connected.map_err(|error| format!("error forwarding port {port} to pod {}, uid : {error}", self.pod))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Error,
}

/// The first stream of a pair, waiting for its other.
struct Waiting {
    kind: Kind,
    stream: Stream,
    since: Instant,
}

/// Serves a connection until the client goes.
pub async fn serve(mut connection: Connection, target: Target) {
    let control = connection.control();
    let mut waiting: HashMap<String, Waiting> = HashMap::new();
    let mut sweep = tokio::time::interval(CREATION_TIMEOUT);
    loop {
        let stream = tokio::select! {
            stream = connection.accept() => stream,
            _ = sweep.tick() => {
                abandon(&mut waiting).await;
                continue;
            }
        };
        let Some(stream) = stream else { break };
        let (kind, port) = match asked(&stream) {
            Ok(asked) => asked,
            Err(words) => {
                tracing::debug!(words, "port-forward stream refused");
                stream.output.reset(reset::CANCEL).await;
                continue;
            }
        };
        match waiting.entry(request_id(&stream, kind)) {
            Entry::Vacant(entry) => {
                entry.insert(Waiting { kind, stream, since: Instant::now() });
            }
            Entry::Occupied(entry) if entry.get().kind == kind => {
                tracing::debug!(request = entry.key(), ?kind, "stream already assigned");
                stream.output.reset(reset::CANCEL).await;
            }
            Entry::Occupied(entry) => {
                let first = entry.remove().stream;
                let (data, error) = if kind == Kind::Data { (stream, first) } else { (first, stream) };
                tokio::spawn(forward(data, error.output, port, target.clone(), control.clone()));
            }
        }
    }
    control.close().await;
}

/// Streams whose other never came.
async fn abandon(waiting: &mut HashMap<String, Waiting>) {
    let late = waiting.extract_if(|_, waiting| waiting.since.elapsed() >= CREATION_TIMEOUT).collect::<Vec<_>>();
    for (request, Waiting { kind, stream, .. }) in late {
        if kind == Kind::Error {
            let words = format!("(request={request}) timed out waiting for streams");
            stream.output.write(words.into()).await.ok();
        }
        stream.output.close().await;
    }
}

fn asked(stream: &Stream) -> Result<(Kind, u16), String> {
    let port = stream.headers.get("port").ok_or("\"port\" header is required")?;
    let number: u16 = port.parse().map_err(|_| format!("unable to parse {port:?} as a port"))?;
    if number == 0 {
        return Err(format!("port {port:?} must be > 0"));
    }
    match stream.headers.get("streamType") {
        Some("data") => Ok((Kind::Data, number)),
        Some("error") => Ok((Kind::Error, number)),
        Some(other) => Err(format!("invalid stream type {other:?}")),
        None => Err("\"streamType\" header is required".into()),
    }
}

/// Clients from before there were request ids open `error` and then `data`, with numbers that follow one another.
fn request_id(stream: &Stream, kind: Kind) -> String {
    match (stream.headers.get("requestID"), kind) {
        (Some(id), _) => id.to_string(),
        (None, Kind::Error) => stream.id.to_string(),
        (None, Kind::Data) => stream.id.saturating_sub(2).to_string(),
    }
}

async fn forward(data: Stream, error: Output, port: u16, target: Target, control: Control) {
    match target.dial(port).await {
        Ok(connection) => {
            pipe(connection, data.input, &data.output, &control).await;
            data.output.close().await;
        }
        Err(words) => {
            error.write(words.into()).await.ok();
            data.output.reset(reset::CANCEL).await;
        }
    }
    error.close().await;
}

/// Carries bytes until the pod has no more to say. The client's half-close is passed on, and alone ends nothing.
async fn pipe(connection: TcpStream, mut input: Input, output: &Output, control: &Control) {
    let reset = input.reset();
    let (mut from, mut to) = connection.into_split();
    let inward = async {
        while let Some(data) = input.next().await {
            if to.write_all(&data).await.is_err() {
                break;
            }
        }
        to.shutdown().await.ok();
        std::future::pending::<()>().await;
    };
    let outward = async {
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            if output.write(Bytes::copy_from_slice(&buffer[..read])).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
        () = reset.cancelled() => {}
        () = control.ended() => {}
    }
}
