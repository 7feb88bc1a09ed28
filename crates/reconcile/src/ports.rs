//! What some controllers need that is neither an object nor a setting: keys, held by whoever runs them.

use core::net::IpAddr;
use std::fmt;

use jiff::Timestamp;

/// What the token in a `kubernetes.io/service-account-token` Secret says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretToken {
    pub namespace: String,
    pub account: String,
    pub account_uid: String,
    pub secret: String,
}

/// Signs tokens with the cluster's ServiceAccount key.
pub trait TokenSigner: fmt::Debug + Send + Sync {
    /// A token that is good for as long as its Secret holds it.
    ///
    /// # Errors
    /// The key cannot sign.
    fn sign(&self, token: &SecretToken) -> Result<String, String>;
}

/// What a certificate signing request (PKCS #10) asks for. Of names that no node has, only their number matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedCertificate {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub email_addresses: usize,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: usize,
}

/// What a certificate may be used for, by the API's names, and how long it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateTerms {
    pub usages: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// The cluster's certificate authority. Requests and certificates are PEM.
pub trait CertificateAuthority: fmt::Debug + Send + Sync {
    /// # Errors
    /// It is no request, or its signature is not its key's.
    fn read(&self, request: &[u8]) -> Result<RequestedCertificate, String>;

    /// A certificate with the subject and the alternative names of the request, and no authority of its own.
    ///
    /// # Errors
    /// The request is not to be read, a usage is unknown, or the authority itself has expired.
    fn sign(&self, request: &[u8], terms: &CertificateTerms) -> Result<String, String>;

    /// When a certificate expires; none for what is no certificate.
    fn expires(&self, certificate: &[u8]) -> Option<Timestamp>;
}
