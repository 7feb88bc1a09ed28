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

/// What the store serves with.
pub struct Credentials {
    authority: String,
    server: Arc<Renewable>,
}

impl Credentials {
    pub fn ensure(settings: &Settings, now: Timestamp) -> anyhow::Result<Credentials> {
        let pki = ensure(settings, now)?;
        Ok(Credentials { authority: pki.ca.certificate, server: Renewable::new(&pki.server)? })
    }

    /// Takes up what is on disk, after what is old was made anew.
    pub fn renew(&self, settings: &Settings, now: Timestamp) -> anyhow::Result<()> {
        Ok(self.server.renew(&ensure(settings, now)?.server)?)
    }
}

fn ensure(settings: &Settings, now: Timestamp) -> anyhow::Result<EtcdPki> {
    let directory = settings.data.join("pki");
    Ok(EtcdPki::ensure(&directory, &certificates::names(settings), settings.certificate_validity, now)?)
}

/// Serves the store at `address`, to clients that the store's own authority vouches for.
pub async fn start(
    credentials: &Credentials,
    address: SocketAddr,
    store: Arc<dyn Store>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot serve the store on {address}"))?;
    tokio::spawn(store::etcd::serve(store, listener, Arc::new(tls(credentials)?), stop));
    Ok(())
}

fn tls(credentials: &Credentials) -> anyhow::Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credentials.authority.as_bytes()) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(credentials.server.clone());
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}
