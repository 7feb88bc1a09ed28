//! The API's certificate, and the CA that clients' certificates must come from.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::KubeletConfig;

pub(super) fn config(config: &KubeletConfig) -> Result<ServerConfig, String> {
    let serving = config.serving.clone().ok_or("no serving certificate is configured")?;
    let told = |error: rustls_pki_types::pem::Error| format!("{}: {error}", config.client_ca_file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&config.client_ca_file).map_err(told)? {
        let certificate = certificate.map_err(told)?;
        roots.add(certificate).map_err(|error| format!("{}: {error}", config.client_ca_file.display()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    // Without a certificate a bearer token may still say who it is.
    let clients = clients.allow_unauthenticated().build().map_err(|error| error.to_string())?;
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let mut server = builder.with_client_cert_verifier(clients).with_cert_resolver(serving);
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}
