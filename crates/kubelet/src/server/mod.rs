//! The kubelet's HTTPS API on port 10250.
//!
//! kubernetes/kubernetes pkg/kubelet/server/server.go: paths and answers.

mod auth;
mod container_logs;
mod pages;
mod summary;
mod tls;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use journal::{Cause, Rule, Subject, What};
use pods::ports::ContainerId;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::host::Host;
use crate::streaming::{self, StreamOptions};
use auth::{Authorizer, User};
pub(crate) use summary::Rates;

pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub(crate) fn text(status: StatusCode, words: impl Into<Bytes>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", words)
}

pub(crate) fn answer(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

struct Api {
    host: Arc<Host>,
    authorizer: Authorizer,
}

/// Binds the port and loads the certificate; the returned future serves.
///
/// # Errors
/// The port is taken or the certificate cannot be used.
pub(crate) async fn bind(
    host: Arc<Host>,
    listen: SocketAddr,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let acceptor = TlsAcceptor::from(Arc::new(tls::config(&host.config)?));
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("listen on {listen}: {error}"))?;
    let authorizer = Authorizer::new(host.client.clone(), &host.config.node_name);
    Ok(accept(listener, acceptor, Arc::new(Api { host, authorizer })))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, api: Arc<Api>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&api)));
            }
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                // Out of descriptors, most likely: give others time to close theirs.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, api: Arc<Api>) {
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "TLS handshake"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = certificate.and_then(|certificate| auth::user_of(certificate));
    let service = service_fn(move |request| {
        let (api, user) = (Arc::clone(&api), user.clone());
        async move { Ok::<_, Infallible>(api.serve(request, user).await) }
    });
    let builder = Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(error, "connection of the kubelet's API");
    }
}

/// Pairs of a query, decoded.
fn query(uri: &http::Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let pair: Vec<u8> = bytes.by_ref().take(2).collect();
                let number = std::str::from_utf8(&pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                out.extend(number);
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Api {
    async fn serve(&self, request: Request<Incoming>, user: Option<User>) -> Response<Body> {
        let path = request.uri().path().to_string();
        let user = match user {
            Some(user) => user,
            None => match self.authorizer.authenticate(request.headers()).await {
                Some(user) => user,
                None => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            },
        };
        if let Err(words) = self.authorizer.allow(&user, request.method(), &path).await {
            let what = What::RequestRefused {
                user: user.name.clone(),
                verb: request.method().as_str().to_lowercase(),
                resource: path,
                message: words.clone(),
                because: Cause::kubelet(Rule::Unauthorized, Vec::new()),
            };
            self.host.record(Subject::node(), what);
            return text(StatusCode::FORBIDDEN, words);
        }
        let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let reading = request.method() == Method::GET || request.method() == Method::HEAD;
        match (parts.as_slice(), reading) {
            (["healthz"] | ["healthz", "ping" | "log" | "syncloop"], true) => text(StatusCode::OK, "ok"),
            (["pods"], true) => pages::pods(&self.host, false),
            (["runningpods"], true) => pages::pods(&self.host, true),
            (["configz"], true) => pages::configz(&self.host),
            (["metrics"], true) => pages::metrics(&self.host),
            (["metrics", "probes"], true) => pages::probe_metrics(&self.host),
            (["metrics", "resource"], true) => pages::resource_metrics(&self.host).await,
            (["metrics", "cadvisor"], true) => pages::cadvisor_metrics(&self.host).await,
            (["stats", "summary"], true) => pages::summary(&self.host).await,
            (["containerLogs", namespace, pod, container], true) => {
                container_logs::serve(&self.host, namespace, pod, container, &query(request.uri())).await
            }
            (["exec" | "attach" | "portForward", ..], _) => self.stream(request, &parts).await,
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    /// `/exec/{namespace}/{pod}[/{uid}]/{container}`, the same for attach, and `/portForward/{namespace}/{pod}[/{uid}]`.
    async fn stream(&self, request: Request<Incoming>, parts: &[&str]) -> Response<Body> {
        let query = query(request.uri());
        let [what, namespace, pod, rest @ ..] = parts else { return text(StatusCode::NOT_FOUND, "not found\n") };
        let Some(known) = self.host.pod_named(namespace, pod) else {
            return text(StatusCode::NOT_FOUND, "pod does not exist\n");
        };
        if *what == "portForward" {
            let ports = query.iter().filter(|(name, _)| name == "port").flat_map(|(_, value)| value.split(','));
            let ports = ports.filter_map(|port| port.parse().ok()).collect();
            return streaming::serve_port_forward(request, known.network_namespace, ports).await;
        }
        let Some(name) = rest.last() else { return text(StatusCode::NOT_FOUND, "not found\n") };
        let Some(attempt) = running_attempt(&known, name) else {
            return text(StatusCode::NOT_FOUND, format!("container not found (\"{name}\")"));
        };
        let pod_uid = crate::host::uid(&known.pod).to_string();
        let id = ContainerId { pod_uid, name: name.to_string(), attempt };
        let (runtime, options) = (Arc::clone(&self.host.runtime), StreamOptions::parse(&query));
        match *what {
            "exec" => streaming::serve_exec(request, runtime, id, options).await,
            _ => streaming::serve_attach(request, runtime, id, options).await,
        }
    }
}

/// The attempt of a container that runs now.
fn running_attempt(known: &crate::host::Known, name: &str) -> Option<u32> {
    let status = known.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let mut all = lists.into_iter().flat_map(|list| list.iter().flatten());
    let own = all.find(|status| status.name == name)?;
    let id = own.container_id.as_deref()?;
    own.state.as_ref()?.running.as_ref()?;
    id.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_repeat_names() {
        let uri: http::Uri = "/exec/ns/p/c?command=sh&command=-c&command=echo%20a%2Bb&input=1&tty=1".parse().unwrap();
        let options = StreamOptions::parse(&query(&uri));
        assert_eq!(options.command, ["sh", "-c", "echo a+b"]);
        assert!(options.stdin && options.tty && !options.stdout);
    }
}
