//! Connections to kubelets, and to the nodes, pods and services behind `proxy`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use machinery::status::Status;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use crate::server::Inner;

/// The kubelet's port, where the node does not name another.
const KUBELET_PORT: u16 = 10250;
/// For the connection, and again for the handshake on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The most that is read of a kubelet's answer: a summary of a thousand pods is a tenth of it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        if host.contains(':') { write!(f, "[{host}]:{}", self.port) } else { write!(f, "{host}:{}", self.port) }
    }
}

/// How a connection is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    /// TLS with the server's client certificate; the other side's is verified if there is an authority for it.
    Kubelet,
    /// TLS without a client certificate, and any certificate of the other side is taken.
    Unverified,
}

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Where a node's kubelet is: its internal address first, and the port it says.
/// `kubernetes/kubernetes pkg/kubelet/client/kubelet_client.go: GetConnectionInfo`.
pub fn kubelet_address(node: &Value) -> Result<Address, Status> {
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array).cloned().unwrap_or_default();
    let of = |wanted: &str| {
        let found = addresses.iter().find(|address| address["type"] == wanted)?;
        found["address"].as_str().map(str::to_owned)
    };
    let host = of("InternalIP").or_else(|| of("ExternalIP")).or_else(|| of("Hostname")).filter(|host| !host.is_empty());
    let unknown = || Status::internal(format!("no preferred addresses found; known addresses: {addresses:?}"));
    let port = node.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(KUBELET_PORT);
    Ok(Address { host: host.ok_or_else(unknown)?, port })
}

/// A connection on which small messages do not wait for more.
pub async fn tcp(to: &Address) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Opens a connection; a failure is the 503 that upstream's proxy gives.
pub async fn connect(server: &Inner, to: &Address, security: Security) -> Result<Box<dyn Duplex>, Status> {
    let failed = |error: &dyn fmt::Display| {
        Status::service_unavailable(format!("error trying to reach service: dial tcp {to}: {error}"))
    };
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, tcp(to)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(failed(&"i/o timeout")),
    };
    let tls = match security {
        Security::Plain => return Ok(Box::new(stream)),
        Security::Unverified => Arc::clone(&server.unverified_tls),
        Security::Kubelet => {
            server.kubelet_tls.clone().ok_or_else(|| Status::internal("no kubelet client certificate is configured"))?
        }
    };
    let name = ServerName::try_from(to.host.clone()).map_err(|error| failed(&error))?;
    let stream = handshake(tls, name, stream).await.map_err(|error| failed(&error))?;
    Ok(Box::new(stream))
}

/// TLS on a connection, with whoever answers in time.
pub async fn handshake(
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    let secured = tokio::time::timeout(CONNECT_TIMEOUT, TlsConnector::from(tls).connect(name, stream)).await;
    secured
        .unwrap_or_else(|_| Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "net/http: TLS handshake timeout")))
}

/// The body of a kubelet's answer to a GET; anything but 200 is an error.
pub async fn get(server: &Inner, kubelet: &Address, path: &str) -> Result<Bytes, Status> {
    let stream = connect(server, kubelet, Security::Kubelet).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Status::internal)?;
    let driver = tokio::spawn(connection);
    let mut request = Request::get(path).body(crate::http::empty()).map_err(Status::internal)?;
    let host = HeaderValue::from_str(&kubelet.to_string()).map_err(Status::internal)?;
    request.headers_mut().insert(header::HOST, host);
    let answer = sender.send_request(request).await.map_err(Status::internal)?;
    let code = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(Status::internal)?.to_bytes();
    driver.abort();
    if code != StatusCode::OK {
        return Err(Status::internal(format!("kubelet {kubelet} {path}: {code}: {}", String::from_utf8_lossy(&body))));
    }
    Ok(body)
}
