//! The API's certificate, and the CA that clients' certificates must come from.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::KubeletConfig;

pub(super) fn config(config: &KubeletConfig) -> Result<ServerConfig, String> {
    let told = |path: &Path| {
        let path = path.display().to_string();
        move |error: rustls_pki_types::pem::Error| format!("{path}: {error}")
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&config.tls_cert_file).map_err(told(&config.tls_cert_file))?.collect();
    let chain = chain.map_err(told(&config.tls_cert_file))?;
    let key = PrivateKeyDer::from_pem_file(&config.tls_key_file).map_err(told(&config.tls_key_file))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&config.client_ca_file).map_err(told(&config.client_ca_file))? {
        let certificate = certificate.map_err(told(&config.client_ca_file))?;
        roots.add(certificate).map_err(|error| format!("{}: {error}", config.client_ca_file.display()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    // Without a certificate a bearer token may still say who it is.
    let clients = clients.allow_unauthenticated().build().map_err(|error| error.to_string())?;
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut server = builder
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| format!("{}: {error}", config.tls_cert_file.display()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}
