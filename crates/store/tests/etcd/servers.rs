//! An etcd of another make, and our store served as one.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use store::etcd::{Client, TlsFiles};
use store::{Embedded, Options, Store};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::member::Etcd;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Etcd {
    pub async fn start() -> Etcd {
        let etcd = Etcd::spawn();
        etcd.answers().await;
        etcd
    }

    /// Kills it and starts it on the same data, at the same place.
    pub async fn restart(mut self) -> Etcd {
        self.kill();
        self.start_again();
        self.answers().await;
        self
    }

    async fn answers(&self) {
        let begun = Instant::now();
        while let Err(error) = self.client().status().await {
            assert!(begun.elapsed() < PATIENCE, "etcd does not start: {error}");
        }
    }

    pub fn client(&self) -> Client {
        client(&[self.client_port])
    }
}

/// A client of the plaintext etcds at these ports of this host.
pub fn client(ports: &[u16]) -> Client {
    let endpoints = ports.iter().map(|port| format!("http://127.0.0.1:{port}").parse().unwrap());
    Client::new(endpoints.collect(), TlsFiles::default()).unwrap()
}

/// Our store, served by etcd's protocol to clients with a certificate.
pub struct Served {
    pub client: Client,
    pub files: tempfile::TempDir,
    pub url: String,
    _stop: DropGuard,
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

impl Served {
    pub async fn start() -> Served {
        let authority = Authority::new();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let (certificate, key) = authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
        let ca = rustls::pki_types::pem::PemObject::from_pem_slice(authority.pem.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];

        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (own, own_key) = authority.issue(ExtendedKeyUsagePurpose::ClientAuth);
        let shown = (file("client.crt", &own.pem()), file("client.key", &own_key.serialize_pem()));
        let files_shown = TlsFiles { ca: Some(file("ca.crt", &authority.pem)), client: Some(shown) };

        let store = Arc::new(Embedded::in_memory(Options { compact_every: None, ..Options::default() }));
        let listener = tokio::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(store::etcd::serve(store, listener, Arc::new(tls), stop.clone()));
        let client = Client::new(vec![url.parse().unwrap()], files_shown).unwrap();
        Served { client, files, url, _stop: stop.drop_guard() }
    }
}
