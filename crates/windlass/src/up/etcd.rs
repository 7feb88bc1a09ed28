//! The store as etcd, for who asks for it: `etcdctl`, an API server of another make.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bootstrap::etcd_pki::EtcdPki;
use bootstrap::pki::Renewable;
use jiff::Timestamp;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::certificates;
use crate::config::Settings;

/// Serves the store at `address`, to clients that the store's own authority vouches for.
pub async fn start(
    settings: &Settings,
    address: SocketAddr,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let pki = EtcdPki::ensure(
        &settings.data.join("pki"),
        &certificates::names(settings),
        settings.certificate_validity,
        Timestamp::now(),
    )?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot serve the store on {address}"))?;
    tokio::spawn(store::etcd::serve(store, listener, Arc::new(tls(&pki)?), stop));
    Ok(())
}

fn tls(pki: &EtcdPki) -> anyhow::Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pki.ca.certificate.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Renewable::new(&pki.server)?);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}
