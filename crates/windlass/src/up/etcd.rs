//! The store as etcd, for who asks for it (`etcdctl`, an API server of another make), and an etcd in the place of the store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bootstrap::etcd_pki::EtcdPki;
use bootstrap::pki::Renewable;
use jiff::Timestamp;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{RootCertStore, crypto};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use store::Store;
use store::etcd::Client;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::certificates;
use crate::config::{EtcdServers, Settings};
use crate::progress::Progress;

/// How long an etcd may take to answer at the start. `kubernetes/apiserver pkg/storage/storagebackend/factory/etcd3.go:
/// dialTimeout`.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long after an answer that does not serve it is asked again.
const ASK_EVERY: Duration = Duration::from_millis(200);

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

/// The client of an etcd that has answered.
pub async fn connect(servers: &EtcdServers, progress: &Progress) -> anyhow::Result<Client> {
    let client = Client::new(servers.endpoints.clone(), servers.tls.clone()).context("--etcd-servers")?;
    let ends = Instant::now() + ANSWER_MAX;
    let mut telling = tokio::time::interval(super::TELL_EVERY);
    telling.tick().await;
    let mut reason = "no connection".to_owned();
    loop {
        tokio::select! {
            asked = client.status() => match asked {
                Ok(status) => {
                    progress.done("etcd", format_args!("{}  revision {}", client.places(), status.revision));
                    return Ok(client);
                }
                // What waiting does not mend.
                Err(error @ store::Error::Refused { .. }) => return Err(error).context("--etcd-servers"),
                Err(error) => reason = error.to_string(),
            },
            _ = telling.tick() => progress.note(format_args!("… waiting for etcd: {reason}")),
            () = tokio::time::sleep_until(ends) => {
                let (places, seconds) = (client.places(), ANSWER_MAX.as_secs());
                bail!("the etcd of --etcd-servers ({places}) has not answered within {seconds} s: {reason}");
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
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
