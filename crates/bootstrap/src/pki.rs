//! The cluster's certificates and keys, by kubeadm's file names: `ca`, `apiserver`, `apiserver-kubelet-client`,
//! `front-proxy-ca`, `front-proxy-client`, `kubelet` (serving) and the ServiceAccount key pair `sa.key`/`sa.pub`.
//!
//! [`Pki::ensure`] loads what is there, makes what is missing, and renews a leaf whose names no longer fit or of whose
//! life less than a third is left. It is called again while the cluster runs; what serves with a certificate or shows one
//! holds it as a [`Renewable`], so that no cluster dies of a certificate that nobody renewed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Usage, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, crypto};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::files::{FileError, make_private_dir, read_if_present, write_file};

const CA_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates begin to be good a little early: clocks of clients may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("a certificate and its key cannot be used: {reason}")]
    Pair { reason: String },
    #[error("cannot make certificate {name}: {source}")]
    Make {
        name: String,
        #[source]
        source: rcgen::Error,
    },
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A certificate and its key as TLS uses them, which may be exchanged for newer ones at any time: every handshake asks.
#[derive(Debug, Default)]
pub struct Renewable {
    current: ArcSwapOption<CertifiedKey>,
}

impl Renewable {
    pub fn new(pair: &Pair) -> Result<Arc<Self>, PkiError> {
        let renewable = Self::default();
        renewable.renew(pair)?;
        Ok(Arc::new(renewable))
    }

    /// Handshakes from now on use this pair; connections that are open go on. Before the first, handshakes fail.
    pub fn renew(&self, pair: &Pair) -> Result<(), PkiError> {
        self.current.store(Some(Arc::new(certified(pair)?)));
        Ok(())
    }
}

impl ResolvesServerCert for Renewable {
    fn resolve(&self, _: ClientHello) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

impl ResolvesClientCert for Renewable {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Checks that the key belongs to the certificate.
fn certified(pair: &Pair) -> Result<CertifiedKey, PkiError> {
    let unusable = |reason: String| PkiError::Pair { reason };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect();
    let chain = chain.map_err(|e| unusable(e.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).map_err(|e| unusable(e.to_string()))?;
    CertifiedKey::from_der(chain, key, &crypto::aws_lc_rs::default_provider()).map_err(|e| unusable(e.to_string()))
}

/// What the serving certificates must name.
#[derive(Clone, Debug)]
pub struct Names {
    pub node: String,
    pub node_addresses: Vec<IpAddr>,
    /// Further DNS names and addresses of the API server (`--tls-san`).
    pub extra: Vec<String>,
    /// The `kubernetes` service's address.
    pub service_address: IpAddr,
    pub cluster_domain: String,
}

/// Everything under the PKI directory.
#[derive(Clone, Debug)]
pub struct Pki {
    pub directory: PathBuf,
    pub ca: Pair,
    pub front_proxy_ca: Pair,
    pub apiserver: Pair,
    pub apiserver_kubelet_client: Pair,
    pub front_proxy_client: Pair,
    pub kubelet: Pair,
    /// Signs ServiceAccount tokens (ES256): private key, public key.
    pub service_account: Pair,
    /// How long leaves are good.
    pub validity: Duration,
    /// Names of what this call made or renewed.
    pub made: Vec<&'static str>,
}

/// A client identity: common name and organisation, which are user and group to the API server. There is no second group:
/// `rcgen` keeps one value of a kind in a name.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub user: &'a str,
    pub group: Option<&'a str>,
}

pub(crate) struct Leaf<'a> {
    pub name: &'static str,
    pub subject: Subject<'a>,
    pub usages: &'a [Usage],
    pub sans: Vec<SanType>,
}

impl Pki {
    /// Loads the PKI from `directory`, making or renewing what is needed at `now`. What is made is good for `validity`, the
    /// authorities for ten years.
    pub fn ensure(directory: &Path, names: &Names, validity: Duration, now: Timestamp) -> Result<Self, PkiError> {
        make_private_dir(directory)?;
        let mut made = Vec::new();
        let ca = authority(directory, "ca", "kubernetes", now, &mut made)?;
        let front_proxy_ca = authority(directory, "front-proxy-ca", "front-proxy-ca", now, &mut made)?;
        let mut leaf = |issuer: &Pair, leaf: Leaf| ensure_leaf(directory, issuer, leaf, (validity, now), &mut made);
        let apiserver = leaf(
            &ca,
            Leaf {
                name: "apiserver",
                subject: Subject { user: "kube-apiserver", group: None },
                usages: &[Usage::ServerAuth],
                sans: apiserver_names(names)?,
            },
        )?;
        let kubelet = leaf(
            &ca,
            Leaf {
                name: "kubelet",
                subject: Subject { user: &format!("system:node:{}", names.node), group: Some("system:nodes") },
                usages: &[Usage::ServerAuth],
                sans: node_names(names)?,
            },
        )?;
        let client = |name, user| Leaf {
            name,
            subject: Subject { user, group: None },
            usages: &[Usage::ClientAuth],
            sans: vec![],
        };
        let apiserver_kubelet_client = leaf(&ca, client("apiserver-kubelet-client", "kube-apiserver-kubelet-client"))?;
        let front_proxy_client = leaf(&front_proxy_ca, client("front-proxy-client", "front-proxy-client"))?;
        let service_account = signing_key(directory, &mut made)?;
        let directory = directory.to_owned();
        Ok(Self {
            directory,
            ca,
            front_proxy_ca,
            apiserver,
            apiserver_kubelet_client,
            front_proxy_client,
            kubelet,
            service_account,
            validity,
            made,
        })
    }

    /// A client certificate of the cluster's CA that is kept by nobody but the caller.
    pub fn issue_client(&self, subject: Subject, now: Timestamp) -> Result<Pair, PkiError> {
        let leaf = Leaf { name: "client", subject, usages: &[Usage::ClientAuth], sans: vec![] };
        make_leaf(&self.ca, &leaf, &self.directory.join("ca.key"), (self.validity, now))
    }
}

fn dns(name: &str) -> Result<SanType, PkiError> {
    let value = name.try_into().map_err(|source| PkiError::Make { name: name.to_owned(), source })?;
    Ok(SanType::DnsName(value))
}

fn name_or_address(name: &str) -> Result<SanType, PkiError> {
    name.parse().map_or_else(|_| dns(name), |address| Ok(SanType::IpAddress(address)))
}

fn apiserver_names(names: &Names) -> Result<Vec<SanType>, PkiError> {
    let domain = &names.cluster_domain;
    let mut sans = Vec::new();
    for name in [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        &format!("kubernetes.default.svc.{domain}"),
        "localhost",
        &names.node,
    ] {
        sans.push(dns(name)?);
    }
    sans.extend([names.service_address, IpAddr::from([127, 0, 0, 1])].map(SanType::IpAddress));
    sans.extend(names.node_addresses.iter().copied().map(SanType::IpAddress));
    for name in &names.extra {
        sans.push(name_or_address(name)?);
    }
    sans.dedup();
    Ok(sans)
}

pub(crate) fn node_names(names: &Names) -> Result<Vec<SanType>, PkiError> {
    let mut sans = vec![dns(&names.node)?, dns("localhost")?, SanType::IpAddress(IpAddr::from([127, 0, 0, 1]))];
    sans.extend(names.node_addresses.iter().copied().map(SanType::IpAddress));
    Ok(sans)
}

pub(crate) fn authority(
    directory: &Path,
    name: &'static str,
    common_name: &str,
    now: Timestamp,
    made: &mut Vec<&'static str>,
) -> Result<Pair, PkiError> {
    if let Some(pair) = load(directory, name)? {
        parse(&directory.join(format!("{name}.crt")), &pair.certificate)?;
        return Ok(pair);
    }
    let failed = |source| PkiError::Make { name: name.to_owned(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = params(Subject { user: common_name, group: None }, CA_VALIDITY, now);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![dns(common_name)?];
    let certificate = params.self_signed(&key).map_err(failed)?;
    let pair = Pair { certificate: certificate.pem(), key: key.serialize_pem() };
    save(directory, name, &pair)?;
    made.push(name);
    Ok(pair)
}

pub(crate) fn ensure_leaf(
    directory: &Path,
    issuer: &Pair,
    leaf: Leaf,
    (validity, now): (Duration, Timestamp),
    made: &mut Vec<&'static str>,
) -> Result<Pair, PkiError> {
    let path = directory.join(format!("{}.crt", leaf.name));
    if let Some(pair) = load(directory, leaf.name)?
        && still_good(&path, &pair, issuer, &leaf, now)?
    {
        return Ok(pair);
    }
    let pair = make_leaf(issuer, &leaf, &path, (validity, now))?;
    save(directory, leaf.name, &pair)?;
    made.push(leaf.name);
    Ok(pair)
}

fn make_leaf(
    issuer: &Pair,
    leaf: &Leaf,
    path: &Path,
    (validity, now): (Duration, Timestamp),
) -> Result<Pair, PkiError> {
    let failed = |source| PkiError::Make { name: path.display().to_string(), source };
    let issuer_key = KeyPair::from_pem(&issuer.key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&issuer.certificate, issuer_key).map_err(failed)?;
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = params(leaf.subject, validity, now);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = leaf.usages.to_vec();
    params.subject_alt_names.clone_from(&leaf.sans);
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(subject: Subject, validity: Duration, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, subject.user);
    params.not_before = std::time::SystemTime::from(now - BACKDATED).into();
    params.not_after = (std::time::SystemTime::from(now) + validity).into();
    params
}

/// Whether a certificate on disk can stay: signed by the issuer, a third of its life left, and naming all it must.
fn still_good(path: &Path, pair: &Pair, issuer: &Pair, leaf: &Leaf, now: Timestamp) -> Result<bool, PkiError> {
    let der = parse(path, &pair.certificate)?;
    let ca = parse(path, &issuer.certificate)?;
    let (certificate, authority) = (decode(path, &der)?, decode(path, &ca)?);
    let (from, until) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    let enough_life = until - now.as_second() > (until - from - BACKDATED.as_secs()) / 3;
    let signed = certificate.issuer() == authority.subject()
        && certificate.verify_signature(Some(authority.public_key())).is_ok();
    let present: Vec<SanType> = certificate
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|sans| sans.value.general_names.iter().filter_map(san).collect())
        .unwrap_or_default();
    Ok(signed && enough_life && leaf.sans.iter().all(|san| present.contains(san)))
}

fn san(name: &GeneralName) -> Option<SanType> {
    match name {
        GeneralName::DNSName(name) => dns(name).ok(),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| SanType::IpAddress(b.into())),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| SanType::IpAddress(b.into())),
            _ => None,
        },
        _ => None,
    }
}

fn parse(path: &Path, pem: &str) -> Result<Vec<u8>, PkiError> {
    let unusable = |reason: String| PkiError::Unusable { path: path.to_owned(), reason };
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| unusable(format!("not a certificate: {e}")))?;
    decode(path, &pem.contents)?;
    Ok(pem.contents)
}

fn decode<'a>(path: &Path, der: &'a [u8]) -> Result<X509Certificate<'a>, PkiError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|e| PkiError::Unusable { path: path.to_owned(), reason: format!("not a certificate: {e}") })
}

fn signing_key(directory: &Path, made: &mut Vec<&'static str>) -> Result<Pair, PkiError> {
    let (key_path, public_path) = (directory.join("sa.key"), directory.join("sa.pub"));
    let key = match read_if_present(&key_path)? {
        Some(pem) => KeyPair::from_pem(&pem)
            .map_err(|e| PkiError::Unusable { path: key_path.clone(), reason: format!("not a private key: {e}") })?,
        None => {
            let key = KeyPair::generate().map_err(|source| PkiError::Make { name: "sa.key".to_owned(), source })?;
            write_file(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
            made.push("sa");
            key
        }
    };
    let public = key.public_key_pem();
    if read_if_present(&public_path)?.as_deref() != Some(&public) {
        write_file(&public_path, public.as_bytes(), 0o644)?;
    }
    Ok(Pair { certificate: public, key: key.serialize_pem() })
}

/// A pair from disk. A certificate without its key, or the reverse, is a mistake that must not be papered over.
fn load(directory: &Path, name: &str) -> Result<Option<Pair>, PkiError> {
    let (certificate_path, key_path) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
    match (read_if_present(&certificate_path)?, read_if_present(&key_path)?) {
        (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key })),
        // The key is written first: a crash between the two leaves a key alone, which is harmless.
        (None, _) => Ok(None),
        (Some(_), None) => Err(PkiError::Unusable {
            path: key_path,
            reason: format!(
                "missing, though {} is there; restore it, or remove both to have them made anew",
                certificate_path.display()
            ),
        }),
    }
}

fn save(directory: &Path, name: &str, pair: &Pair) -> Result<(), PkiError> {
    write_file(&directory.join(format!("{name}.key")), pair.key.as_bytes(), 0o600)?;
    write_file(&directory.join(format!("{name}.crt")), pair.certificate.as_bytes(), 0o644)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn names(node: &str) -> Names {
        Names {
            node: node.to_owned(),
            node_addresses: vec![IpAddr::from([192, 0, 2, 2])],
            extra: vec!["api.example.org".to_owned()],
            service_address: IpAddr::from([10, 96, 0, 1]),
            cluster_domain: "cluster.local".to_owned(),
        }
    }

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_second_start_makes_nothing_new() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::ensure(dir.path(), &names("n"), YEAR, at("2026-11-22T00:00:00Z")).unwrap();
        assert_eq!(first.made.len(), 7);
        let second = Pki::ensure(dir.path(), &names("n"), YEAR, at("2026-12-22T00:00:00Z")).unwrap();
        assert!(second.made.is_empty(), "{:?}", second.made);
        assert_eq!(first.apiserver.certificate, second.apiserver.certificate);
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("ca.key"), mode("sa.key"), mode("apiserver.key")), (0o600, 0o600, 0o600));
    }

    #[test]
    fn an_old_or_misnamed_leaf_is_renewed_and_the_authority_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = Pki::ensure(dir.path(), &names("n"), YEAR, at("2026-11-22T00:00:00Z")).unwrap();
        let later = Pki::ensure(dir.path(), &names("n"), YEAR, at("2027-08-22T00:00:00Z")).unwrap();
        assert_eq!(later.made, ["apiserver", "kubelet", "apiserver-kubelet-client", "front-proxy-client"]);
        assert_eq!(first.ca.certificate, later.ca.certificate);
        let renamed = Pki::ensure(dir.path(), &names("m"), YEAR, at("2027-08-22T00:00:00Z")).unwrap();
        assert_eq!(renamed.made, ["apiserver", "kubelet"]);
    }

    #[test]
    fn a_corrupt_or_half_pair_is_named() {
        let dir = tempfile::tempdir().unwrap();
        Pki::ensure(dir.path(), &names("n"), YEAR, at("2026-11-22T00:00:00Z")).unwrap();
        std::fs::write(dir.path().join("ca.crt"), "rubbish").unwrap();
        let error = Pki::ensure(dir.path(), &names("n"), YEAR, at("2026-11-22T00:00:00Z")).unwrap_err().to_string();
        assert!(error.contains("ca.crt: not a certificate"), "{error}");
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = Pki::ensure(dir.path(), &names("n"), YEAR, at("2026-11-22T00:00:00Z")).unwrap_err().to_string();
        assert!(error.contains("ca.key: missing, though"), "{error}");
    }

    #[test]
    fn a_short_life_is_renewed_in_time_and_served_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let ensure = |now| Pki::ensure(dir.path(), &names("n"), Duration::from_secs(60), at(now)).unwrap();
        let first = ensure("2026-11-22T00:00:00Z");
        let serving = Renewable::new(&first.apiserver).unwrap();
        assert!(ensure("2026-11-22T00:00:30Z").made.is_empty());
        let second = ensure("2026-11-22T00:00:45Z");
        assert_eq!(second.made, ["apiserver", "kubelet", "apiserver-kubelet-client", "front-proxy-client"]);
        serving.renew(&second.apiserver).unwrap();
        let shown = ResolvesClientCert::resolve(&*serving, &[], &[]).unwrap();
        let end = X509Certificate::from_der(&shown.cert[0]).unwrap().1.validity().not_after.timestamp();
        assert_eq!(end, at("2026-11-22T00:01:45Z").as_second());
        let mixed = Pair { certificate: first.apiserver.certificate, key: second.apiserver.key };
        assert!(serving.renew(&mixed).is_err());
    }
}
