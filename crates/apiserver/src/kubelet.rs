//! How the server calls kubelets: TLS with its client certificate, one connection a request.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, Error};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::server::{KubeletClient, StartError, roots};
use crate::trust;

/// The TLS configuration for calls to kubelets. HTTP/1.1 alone: upgrades go through it.
pub fn tls(client: &KubeletClient) -> Result<Arc<ClientConfig>, StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Tls(format!("kubelet client: {error}"));
    let verifier = if client.ca.is_empty() {
        any_server()
    } else {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = Arc::new(roots(&client.ca)?);
        WebPkiServerVerifier::builder_with_provider(roots, provider).build().map_err(|error| failed(&error))?
    };
    let config = trust::by(verifier).map_err(|error| failed(&error))?;
    Ok(Arc::new(config.with_client_cert_resolver(Arc::clone(&client.certificate))))
}

/// The TLS configuration for calls to pods and services: no certificate is shown, and any is taken.
/// `kubernetes/kubernetes pkg/kubeapiserver/options: the proxy transport skips verification`.
pub fn unverified_tls() -> Result<Arc<ClientConfig>, StartError> {
    let config = trust::by(any_server()).map_err(|error| StartError::Tls(error.to_string()))?;
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Takes any certificate of a server.
pub fn any_server() -> Arc<dyn ServerCertVerifier> {
    Arc::new(AnyServerCert(Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

/// Takes a certificate as it is, as upstream does of a kubelet's when it is given no authority for them.
#[derive(Debug)]
struct AnyServerCert(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServerCert {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    crate::authn::x509::signatures_by!(0);
}
