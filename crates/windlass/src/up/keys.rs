//! The cluster's keys as the controllers' ports: who signs tokens and certificates.

use std::fmt;

use anyhow::Context;
use apiserver::Signer;
use bootstrap::csr::{self, Request};
use bootstrap::pki::{Pair, Pki};
use jiff::Timestamp;
use runner::ports::{CertificateAuthority, CertificateTerms, RequestedCertificate, SecretToken, TokenSigner};

/// Signs the tokens that ServiceAccount token Secrets hold.
pub struct SecretTokens(Signer);

impl SecretTokens {
    pub fn new(pki: &Pki) -> anyhow::Result<SecretTokens> {
        let key = pki.service_account.key.as_bytes();
        Ok(SecretTokens(Signer::new(key, apiserver::SECRET_ISSUER).context("the ServiceAccount signing key")?))
    }
}

impl fmt::Debug for SecretTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretTokens")
    }
}

impl TokenSigner for SecretTokens {
    fn sign(&self, token: &SecretToken) -> Result<String, String> {
        let signed = self.0.sign_for_secret(&token.namespace, &token.account, &token.account_uid, &token.secret);
        signed.map_err(|error| error.to_string())
    }
}

/// The cluster's authority, which signs what is approved.
pub struct ClusterAuthority(Pair);

impl ClusterAuthority {
    pub fn new(pki: &Pki) -> ClusterAuthority {
        ClusterAuthority(pki.ca.clone())
    }
}

/// The key is nobody's to read.
impl fmt::Debug for ClusterAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterAuthority")
    }
}

impl CertificateAuthority for ClusterAuthority {
    fn read(&self, request: &[u8]) -> Result<RequestedCertificate, String> {
        let read = Request::read(request)?;
        let names = read.names();
        Ok(RequestedCertificate {
            common_name: read.common_name(),
            organizations: read.organizations(),
            dns_names: names.dns_names,
            email_addresses: names.email_addresses,
            ip_addresses: names.ip_addresses,
            uris: names.uris,
        })
    }

    fn sign(&self, request: &[u8], terms: &CertificateTerms) -> Result<String, String> {
        Request::read(request)?.sign(&self.0, &terms.usages, terms.not_before, terms.not_after)
    }

    fn expires(&self, certificate: &[u8]) -> Option<Timestamp> {
        csr::expires(certificate)
    }
}
