//! What is shown to an etcd that is spoken to by TLS, and what is taken from it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::error::Error;

/// PEM files. They are read at every handshake, so that what is renewed is taken up, as upstream does
/// (`etcd client/pkg/transport/listener.go: TLSInfo`).
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The authorities of etcd's certificate; none: the system's.
    pub ca: Option<PathBuf>,
    /// Our own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::io("read", path))
}

fn unusable(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |reason| Error::Unusable { what: path.display().to_string(), reason: reason.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read(path)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| unusable(path)(&error))?;
    if found.is_empty() { Err(unusable(path)(&"there is no certificate in it")) } else { Ok(found) }
}

impl TlsFiles {
    fn authorities(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| unusable(path)(&error))?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        Ok(roots)
    }

    pub fn config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Unusable { what: "TLS".to_owned(), reason: error.to_string() })?
            .with_root_certificates(self.authorities()?);
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unusable(key)(&error))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| unusable(certificate)(&error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}
