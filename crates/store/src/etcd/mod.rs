//! etcd's gRPC protocol, both ways. [`serve`] puts it over a store, so that an upstream API server and `etcdctl` can use
//! ours: KV, Watch, Lease, and what they ask of Maintenance and Cluster. There is one member, which leads; what only makes
//! sense among several, and what speaks of etcd's own file format, is refused as unimplemented. [`Client`] is a store that
//! an etcd elsewhere keeps.
//!
//! Start with either; requests and answers of both are in `convert.rs`, errors in `refusal.rs`, the watches that are served
//! in `watch.rs`, and those that are asked for in `client/watch.rs`.

mod client;
mod convert;
mod lease;
mod messages;
mod refusal;
mod service;
mod sifted;
mod watch;

use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use mvcc::{RangeRequest, Revision};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::api::Store;
pub use client::{Client, Endpoint, TlsFiles};
use refusal::refusal;
use service::Etcd;

/// How long a client may take to shake hands.
const HANDSHAKE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Serves the store until `stop`. `tls` decides whose certificates are trusted.
pub async fn serve(
    store: Arc<dyn Store>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
) {
    let address = listener.local_addr().map(|address| format!("https://{address}")).unwrap_or_default();
    let etcd = Etcd::new(store, address);
    let acceptor = TlsAcceptor::from(tls);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the store could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, etcd, stop) = (acceptor.clone(), etcd.clone(), stop.clone());
        tokio::spawn(async move {
            let stream = match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return tracing::debug!(%error, "a client of the store was refused"),
                Err(_) => return,
            };
            let service = hyper::service::service_fn(move |request| {
                let etcd = etcd.clone();
                async move { Ok::<_, std::convert::Infallible>(etcd.answer(request).await) }
            });
            let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http.max_concurrent_streams(None);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection to the store ended");
                },
                () = stop.cancelled() => {}
            }
        });
    }
}

/// The store's revision now.
async fn revision(store: &dyn Store) -> Result<Revision, Status> {
    // Any key does: what is asked for is the answer's header.
    let nothing = RangeRequest { count_only: true, ..RangeRequest::one(vec![0]) };
    Ok(store.range(nothing).await.map_err(refusal)?.revision)
}
