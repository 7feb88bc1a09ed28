//! Whose certificates are taken of the servers that users name: webhooks and other API servers.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, ConfigBuilder, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::dial::Address;
use crate::server::roots;

/// TLS that takes the server's certificate by `verifier`; what is left open is the client's own.
pub fn by(verifier: Arc<dyn ServerCertVerifier>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.dangerous().with_custom_certificate_verifier(verifier))
}

/// Verifies by a PEM bundle, or by the system's authorities when it is empty.
pub fn bundle(pem: &[u8]) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusted = if pem.is_empty() {
        system()
    } else {
        Arc::new(roots(pem).map_err(|error| format!("unable to load root certificates: {error}"))?)
    };
    let own = rustls_pki_types::pem::PemObject::pem_slice_iter(pem).filter_map(Result::ok).collect();
    let verifier = WebPkiServerVerifier::builder_with_provider(trusted, Arc::clone(&provider)).build();
    Ok(Arc::new(Bundle { verifier: verifier.map_err(|error| error.to_string())?, own, provider }))
}

/// The authorities of the machine, read once.
fn system() -> Arc<RootCertStore> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(store)
    };
    Arc::clone(SYSTEM.get_or_init(read))
}

/// A bundle may hold the server's own certificate instead of its authority's, as Go allows.
#[derive(Debug)]
struct Bundle {
    verifier: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Bundle {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp, now);
        if verified.is_ok() || !self.own.contains(end_entity) {
            return verified;
        }
        let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    crate::authn::x509::signatures_by!(provider);
}

/// A connection that could not be made, as Go's client tells it.
pub fn undialed(to: &Address, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => format!("dial tcp {to}: connect: connection refused"),
        _ => format!("dial tcp {to}: {error}"),
    }
}

/// A failed handshake as Go's client tells it.
pub fn in_gos_words(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let reason = match cause {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "x509: certificate signed by unknown authority".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            "x509: certificate has expired or is not yet valid".to_owned()
        }
        Some(Error::InvalidCertificate(other)) => format!("x509: {other:?}"),
        _ => return error.to_string(),
    };
    format!("tls: failed to verify certificate: {reason}")
}
