//! Client certificates: the common name is the user, organisations are its groups.
//!
//! The handshake itself takes any certificate whose private key the client proves to hold, as Go's `RequestClientCert`
//! does, so that a foreign or expired one is answered with a 401 rather than a broken connection.

use std::sync::Arc;

use admit::UserInfo;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DistinguishedName, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::server::Inner;

/// The half of a certificate verifier that only proves who holds the private key, by the crypto provider in a field.
macro_rules! signatures_by {
    ($provider:tt) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls_pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls_pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &self.$provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.$provider.signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(crate) use signatures_by;

/// Asks for a certificate, needs none, and leaves the judgement to [`user`].
#[derive(Debug)]
pub struct AnyClientCert {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl AnyClientCert {
    pub fn new(provider: Arc<CryptoProvider>, roots: &RootCertStore) -> AnyClientCert {
        AnyClientCert { provider, hints: roots.subjects() }
    }
}

impl ClientCertVerifier for AnyClientCert {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    signatures_by!(provider);
}

/// Verifies the chain against the client CA and reads the user from the first certificate.
pub fn user(server: &Inner, chain: &[CertificateDer<'static>]) -> Result<UserInfo, String> {
    let verifier = server.client_verifier.as_ref().ok_or("no client CA is configured")?;
    let (first, rest) = chain.split_first().ok_or("no certificate")?;
    verifier.verify_client_cert(first, rest, UnixTime::now()).map_err(|error| error.to_string())?;
    let (_, certificate) = X509Certificate::from_der(first).map_err(|error| error.to_string())?;
    let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
    let name = certificate.subject().iter_common_name().find_map(text).unwrap_or_default();
    if name.is_empty() {
        return Err("the certificate has no common name".to_owned());
    }
    let groups: Vec<String> = certificate.subject().iter_organization().filter_map(text).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let mut user = UserInfo::new(name, &groups);
    let digest = sha2_hex(first);
    user.extra.insert("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("X509SHA256={digest}")]);
    Ok(user)
}

/// The name that a certificate is for.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    names.find_map(|name| name.as_str().ok().map(str::to_owned))
}

fn sha2_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
