//! HTTP and TCP probes, and HTTP hooks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use journal::{Obstacle, Outcome, Symptom};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, HTTPHeader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{OUTPUT_MAX, Told, not_asked, port, unhealthy};

/// A request that a probe or a hook makes.
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) headers: Vec<HTTPHeader>,
}

impl Target {
    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }

    /// Where a `Location` header leads from here.
    fn redirected(&self, location: &str) -> Result<Target, http::uri::InvalidUri> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.https { "https" } else { "http" };
        let absolute = match location {
            network if network.starts_with("//") => format!("{scheme}:{network}"),
            full if full.contains("://") => full.to_string(),
            path => {
                let bare = self.path.split('?').next().unwrap_or_default();
                let directory = &bare[..=bare.rfind('/').unwrap_or(0).min(bare.len().saturating_sub(1))];
                let path = if path.starts_with('/') { path.to_string() } else { format!("{directory}{path}") };
                format!("{scheme}://{}{}", authority(&self.host, self.port), without_dots(&path))
            }
        };
        let uri: http::Uri = absolute.parse()?;
        let https = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
        Ok(Target {
            https,
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            path: uri.path_and_query().map_or_else(|| "/".to_string(), ToString::to_string),
            // A `Host` of the spec's is for the server that it names.
            headers: self
                .headers
                .iter()
                .filter(|h| host == self.host || !h.name.eq_ignore_ascii_case("host"))
                .cloned()
                .collect(),
            host,
        })
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

pub(crate) fn target(action: &HTTPGetAction, container: &Container, address: IpAddr) -> Result<Target, String> {
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
    Ok(Target {
        https: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
        host: action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| address.to_string()),
        port: port(&action.port, container)?,
        path,
        headers: action.http_headers.clone().unwrap_or_default(),
    })
}

/// A connection within `limit`. Errors are split: what this node cannot do says nothing about the container.
pub(super) async fn connect(host: &str, port: u16, limit: Duration) -> Result<TcpStream, Told> {
    let at = authority(host, port);
    match timeout(limit, TcpStream::connect(at.as_str())).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL) => {
                not_asked(Obstacle::RuntimeError { error: error.to_string() })
            }
            _ => {
                let text = format!("dial tcp {at}: connect: {}", go_words(&error));
                unhealthy(Symptom::Connection { error: text.clone() }, text)
            }
        }),
        Err(_) => {
            let limit_ms = limit.as_millis() as u64;
            let text = format!("dial tcp {at}: i/o timeout");
            Err(unhealthy(Symptom::Deadline { limit_ms, output: String::new() }, text))
        }
    }
}

/// Go prints the C library's message in lower case and without the number.
fn go_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let bare = text.split(" (os error").next().unwrap_or(&text);
    bare.to_lowercase()
}

pub(super) async fn ask(target: &Target, limit: Duration) -> Told {
    match get(target, limit).await {
        Ok((status, _)) if (200..300).contains(&status) => (Outcome::Healthy, String::new()),
        // Healthy with a warning: it leads to another host, which says nothing about this container.
        Ok((status, body)) if (300..400).contains(&status) => {
            (Outcome::Healthy, format!("Probe terminated redirects, Response body: {body}"))
        }
        Ok((status, body)) => {
            let text = format!("HTTP probe failed with statuscode: {status}");
            unhealthy(Symptom::HttpStatus { status, output: body }, text)
        }
        Err(told) => told,
    }
}

/// Redirects that are followed before a probe gives up.
const REDIRECTS_MAX: usize = 10;

/// A path with its `.` and `..` resolved (RFC 3986, 5.2.4); what follows a `?` stays.
fn without_dots(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut out: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", out.join("/"))
}

/// What a server said.
struct Answer {
    status: u16,
    location: Option<String>,
    body: String,
}

/// A GET: status and the beginning of the body. Redirects are followed on the same host.
///
/// kubernetes/kubernetes pkg/probe/http/http.go (RedirectChecker), net/http's client.
pub(crate) async fn get(target: &Target, limit: Duration) -> Result<(u16, String), Told> {
    let begun = tokio::time::Instant::now();
    let mut next: Option<Target> = None;
    for _ in 0..=REDIRECTS_MAX {
        let current = next.as_ref().unwrap_or(target);
        let answer = get_once(current, limit, begun).await?;
        let followed = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
        let location = answer.location.filter(|location| followed && !location.is_empty());
        let Some(location) = location else { return Ok((answer.status, answer.body)) };
        match current.redirected(&location) {
            Ok(further) if further.host == target.host => next = Some(further),
            Ok(_) => return Ok((answer.status, answer.body)),
            Err(error) => {
                let url = current.url();
                let text = format!("Get {url:?}: failed to parse Location header {location:?}: {error}");
                return Err(unhealthy(Symptom::Connection { error: text.clone() }, text));
            }
        }
    }
    let text = format!("Get {:?}: stopped after {REDIRECTS_MAX} redirects", target.url());
    Err(unhealthy(Symptom::Connection { error: text.clone() }, text))
}

/// One exchange of a GET that `begun` before and has until `limit` from then.
async fn get_once(target: &Target, limit: Duration, begun: tokio::time::Instant) -> Result<Answer, Told> {
    let prefix = format!("Get {:?}: ", target.url());
    let stream = connect(&target.host, target.port, limit.saturating_sub(begun.elapsed()))
        .await
        .map_err(|(outcome, text)| (outcome, prefix.clone() + &text))?;
    let rest = limit.saturating_sub(begun.elapsed());
    let exchange = async {
        if target.https {
            let name =
                rustls_pki_types::ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
            let connector = tokio_rustls::TlsConnector::from(any_certificate()?);
            let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
            send(stream, target).await
        } else {
            send(stream, target).await
        }
    };
    match timeout(rest, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let text = format!("{prefix}{error}");
            Err(unhealthy(Symptom::Connection { error: text.clone() }, text))
        }
        Err(_) => {
            let limit_ms = limit.as_millis() as u64;
            let text = format!("{prefix}context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
            Err(unhealthy(Symptom::Deadline { limit_ms, output: String::new() }, text))
        }
    }
}

async fn send<S>(stream: S, target: &Target) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let told = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(told)?;
    let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = http::Request::get(&target.path);
    let given = |name: &str| target.headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    for (name, value) in [("User-Agent", "kube-probe/1.37"), ("Accept", "*/*"), ("Connection", "close")] {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    if !given("Host") {
        request = request.header("Host", authority(&target.host, target.port));
    }
    for header in &target.headers {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(told)?;
    let status = answer.status().as_u16();
    let location = answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_string);
    // A body that is too long or breaks off does not change what the status line said.
    let body = Limited::new(answer.into_body(), OUTPUT_MAX).collect().await;
    let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
    drop(driver);
    Ok(Answer { status, location, body })
}

/// Probes do not check certificates, as upstream's do not: a pod's is for its own names.
fn any_certificate() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Unchecked(Arc::clone(&provider)));
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Unchecked(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
