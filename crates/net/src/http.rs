//! Small pages over plain HTTP, for probes and scrapers: bounded in connections and in time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(crate) type Page = Response<Full<Bytes>>;

/// What is said on each path.
pub(crate) type Pages = Arc<dyn Fn(&str) -> Page + Send + Sync>;

const CONNECTIONS_MAX: usize = 64;
/// A connection is for one request, and that takes no longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// kubernetes/kubernetes cmd/kube-proxy/app/server.go: how soon a port in use is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(5);

pub(crate) fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    page.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page
}

pub(crate) fn not_found() -> Page {
    page(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// Serves as soon as the address is free. Ends only with the task.
pub(crate) async fn serve_at(what: &'static str, address: SocketAddr, pages: Pages) {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => serve(listener, pages.clone()).await,
            Err(error) => tracing::warn!(%error, %address, "{what} cannot be served, trying again"),
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

/// Returns when the listener fails.
pub(crate) async fn serve(listener: TcpListener, pages: Pages) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed. Whoever comes beyond it waits in the kernel's queue.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => return tracing::warn!(%error, "listener failed"),
        };
        let pages = pages.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let page = pages(request.uri().path());
                async move { Ok::<_, Infallible>(page) }
            });
            let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(error)) = tokio::time::timeout(REQUEST_TIMEOUT, connection).await {
                tracing::debug!(%error, "HTTP connection ended");
            }
            drop(place);
        });
    }
}
