//! The way to an etcd: one connection to one of its members, made when it is needed, and to whichever member answers first
//! when it has broken.

use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::client::Grpc;

use super::tls::TlsFiles;
use crate::error::Error;

/// `kubernetes/apiserver pkg/storage/storagebackend/factory/etcd3.go`: dialTimeout, keepaliveTime, keepaliveTimeout.
const DIAL_MAX: Duration = Duration::from_secs(20);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(10);
/// Bytes that a stream, and all streams together, may have under way: a watch whose reader is slow must not hold up the
/// rest.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;

/// Where a member of an etcd is: `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    origin: Uri,
    host: String,
    port: u16,
    tls: bool,
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Unusable {
            what: format!("{text:?}"),
            reason: "not the address of an etcd as http://HOST:PORT or https://HOST:PORT".to_owned(),
        };
        let origin: Uri = text.trim_end_matches('/').parse().map_err(|_| wrong())?;
        let tls = match origin.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let (Some(host), Some(port), "/" | "") = (origin.host(), origin.port_u16(), origin.path()) else {
            return Err(wrong());
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port, tls, origin })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.origin.to_string().trim_end_matches('/'))
    }
}

impl Endpoint {
    pub fn tls(&self) -> bool {
        self.tls
    }

    async fn dial(&self, tls: &TlsFiles) -> Result<SendRequest<Body>, String> {
        let text = |error: std::io::Error| error.to_string();
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(text)?;
        tcp.set_nodelay(true).map_err(text)?;
        if !self.tls {
            return speak(tcp).await;
        }
        let config = tls.config().map_err(|error| error.to_string())?;
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        speak(TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(text)?).await
    }
}

async fn speak<T>(io: T) -> Result<SendRequest<Body>, String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to etcd ended");
        }
    });
    Ok(sender)
}

/// A request that never left this process.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotSent(hyper::Error);

/// A connection to a member. Clones are the same one.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Body>,
    endpoint: Endpoint,
    /// The member has said that it cannot serve; what goes on over the connection may.
    retired: Arc<AtomicBool>,
}

impl Connection {
    fn is_usable(&self) -> bool {
        !self.sender.is_closed() && !self.retired.load(Ordering::Relaxed)
    }

    pub fn place(&self) -> String {
        self.endpoint.to_string()
    }

    /// Upstream sets no limit to what it receives, and etcd itself limits what it is sent.
    pub fn grpc(&self) -> Grpc<Connection> {
        Grpc::with_origin(self.clone(), self.endpoint.origin.clone()).max_decoding_message_size(usize::MAX)
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // HTTP/2 takes any number of requests; a closed connection says so to the request itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let sent = self.sender.try_send_request(request);
        Box::pin(async move {
            sent.await.map_err(|mut failed| match failed.take_message() {
                Some(_) => NotSent(failed.into_error()).into(),
                None => failed.into_error().into(),
            })
        })
    }
}

type Dialling = Shared<BoxFuture<'static, Result<Connection, Error>>>;

/// The connection there is, or the next one.
pub struct Connections {
    endpoints: Vec<Endpoint>,
    tls: TlsFiles,
    latest: Mutex<Option<Dialling>>,
}

impl Connections {
    pub fn new(endpoints: Vec<Endpoint>, tls: TlsFiles) -> Self {
        Self { endpoints, tls, latest: Mutex::default() }
    }

    /// All members by their addresses.
    pub fn places(&self) -> String {
        places(&self.endpoints)
    }

    /// A connection that was in order a moment ago. Whoever asks while one is being made gets that one, or its error.
    pub async fn get(&self) -> Result<Connection, Error> {
        let dialling = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            let known = latest.as_ref().map(|dialling| (dialling, dialling.peek()));
            match known {
                Some((dialling, None)) => dialling.clone(),
                Some((dialling, Some(Ok(connection)))) if connection.is_usable() => dialling.clone(),
                other => {
                    let retired = match other {
                        Some((_, Some(Ok(connection)))) if connection.retired.load(Ordering::Relaxed) => {
                            Some(connection.endpoint.clone())
                        }
                        _ => None,
                    };
                    let dial = tokio::spawn(dial(self.endpoints.clone(), self.tls.clone(), retired));
                    let dialling = dial.map(|dialled| dialled.unwrap_or(Err(Error::Closed))).boxed().shared();
                    latest.insert(dialling).clone()
                }
            }
        };
        dialling.await
    }

    /// Further requests go to another member, if one can be reached.
    pub fn retire(&self, connection: &Connection) {
        if self.endpoints.len() > 1 {
            connection.retired.store(true, Ordering::Relaxed);
        }
    }
}

fn places(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(", ")
}

/// Connects to the member that answers first; to `retired` only when there is no other.
async fn dial(endpoints: Vec<Endpoint>, tls: TlsFiles, retired: Option<Endpoint>) -> Result<Connection, Error> {
    let (last, first): (Vec<_>, Vec<_>) = endpoints.iter().partition(|endpoint| Some(*endpoint) == retired.as_ref());
    let mut reasons = Vec::new();
    for members in [first, last] {
        let mut dials: FuturesUnordered<_> = members
            .into_iter()
            .map(async |endpoint| match tokio::time::timeout(DIAL_MAX, endpoint.dial(&tls)).await {
                Ok(Ok(sender)) => Ok(Connection { sender, endpoint: endpoint.clone(), retired: Arc::default() }),
                Ok(Err(reason)) => Err(reason),
                Err(_) => Err(format!("no connection within {} s", DIAL_MAX.as_secs())),
            })
            .collect();
        while let Some(dialled) = dials.next().await {
            match dialled {
                Ok(connection) => return Ok(connection),
                Err(reason) => reasons.push(reason),
            }
        }
    }
    reasons.dedup();
    Err(Error::Unavailable { place: places(&endpoints), reason: reasons.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_how_to_speak_and_a_wrong_one_is_named() {
        let parse = |text: &str| text.parse::<Endpoint>();
        let plain = parse("http://127.0.0.1:2379").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.tls), ("127.0.0.1", 2379, false));
        let secret = parse("https://[::1]:2379/").unwrap();
        assert_eq!(
            (secret.host.as_str(), secret.tls, secret.to_string().as_str()),
            ("::1", true, "https://[::1]:2379")
        );
        for wrong in ["127.0.0.1:2379", "https://etcd", "ftp://etcd:1", "http://etcd:2379/v3", ""] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("http://HOST:PORT"), "{error}");
        }
    }
}
