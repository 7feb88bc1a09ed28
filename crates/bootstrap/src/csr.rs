//! Certificate signing requests: reading what one asks for, and signing it with the cluster's authority.
//!
//! kubernetes/kubernetes pkg/controller/certificates/authority: decides what of a request goes into the certificate:
//! the subject, the alternative names and the key, but none of the extensions it asks for.

use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, DnValue, ExtendedKeyUsagePurpose as Usage, IsCa,
    Issuer, KeyPair, KeyUsagePurpose as Bit, SanType,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest};

use crate::pki::{Pair, Subject};

/// A request whose signature is its own key's.
#[derive(Debug)]
pub struct Request(CertificateSigningRequestParams);

/// Uses of a certificate by the names the certificates API has for them.
const USES: [(&str, Use); 22] = [
    ("signing", Use::Bit(Bit::DigitalSignature)),
    ("digital signature", Use::Bit(Bit::DigitalSignature)),
    ("content commitment", Use::Bit(Bit::ContentCommitment)),
    ("key encipherment", Use::Bit(Bit::KeyEncipherment)),
    ("key agreement", Use::Bit(Bit::KeyAgreement)),
    ("data encipherment", Use::Bit(Bit::DataEncipherment)),
    ("cert sign", Use::Bit(Bit::KeyCertSign)),
    ("crl sign", Use::Bit(Bit::CrlSign)),
    ("encipher only", Use::Bit(Bit::EncipherOnly)),
    ("decipher only", Use::Bit(Bit::DecipherOnly)),
    ("any", Use::Extended(&[2, 5, 29, 37, 0])),
    ("server auth", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 1])),
    ("client auth", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 2])),
    ("code signing", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 3])),
    ("email protection", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 4])),
    ("s/mime", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 4])),
    ("ipsec end system", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 5])),
    ("ipsec tunnel", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 6])),
    ("ipsec user", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 7])),
    ("timestamping", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 8])),
    ("ocsp signing", Use::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 9])),
    ("microsoft sgc", Use::Extended(&[1, 3, 6, 1, 4, 1, 311, 10, 3, 3])),
];

#[derive(Clone, Copy)]
enum Use {
    Bit(Bit),
    /// An object identifier.
    Extended(&'static [u64]),
}

/// The alternative names of a request; of those that no node has, their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub dns_names: Vec<String>,
    pub email_addresses: usize,
    pub ip_addresses: Vec<IpAddr>,
    pub uris: usize,
}

/// Makes a key, and a request for a certificate of it: both PEM, the request in the certificate's place.
///
/// # Errors
/// A name is none.
pub fn request(subject: Subject, dns_names: &[&str], ip_addresses: &[IpAddr]) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, subject.user);
    for name in dns_names {
        params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
    }
    params.subject_alt_names.extend(ip_addresses.iter().copied().map(SanType::IpAddress));
    Ok(Pair { certificate: params.serialize_request(&key)?.pem()?, key: key.serialize_pem() })
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// The text is no `CERTIFICATE REQUEST` in PEM, is malformed, is not signed by the key it names, or its subject has
    /// two values of one attribute: a certificate with one of them would be another than was asked for.
    pub fn read(pem: &[u8]) -> Result<Request, String> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| NO_REQUEST.to_string())?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(NO_REQUEST.into());
        }
        let (_, parsed) = X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
        let subject = &parsed.certification_request_info.subject;
        let mut kinds: Vec<String> = subject.iter_attributes().map(|one| one.attr_type().to_id_string()).collect();
        kinds.sort();
        if let Some(twice) = kinds.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("the subject has several values of attribute {}, which is not supported", twice[0]));
        }
        let read = CertificateSigningRequestParams::from_der(&block.contents.as_slice().into());
        read.map(Request).map_err(|error| error.to_string())
    }

    pub fn common_name(&self) -> String {
        self.named(&DnType::CommonName).pop().unwrap_or_default()
    }

    pub fn organizations(&self) -> Vec<String> {
        self.named(&DnType::OrganizationName)
    }

    fn named(&self, kind: &DnType) -> Vec<String> {
        let all = self.0.params.distinguished_name.iter().filter(|(of, _)| *of == kind);
        all.map(|(_, value)| text(value)).collect()
    }

    pub fn names(&self) -> Names {
        let mut names = Names::default();
        for name in &self.0.params.subject_alt_names {
            match name {
                SanType::DnsName(name) => names.dns_names.push(name.to_string()),
                SanType::Rfc822Name(_) => names.email_addresses += 1,
                SanType::IpAddress(address) => names.ip_addresses.push(*address),
                SanType::URI(_) => names.uris += 1,
                _ => {}
            }
        }
        names
    }

    /// Signs the request for these uses; the certificate does not outlive the authority.
    ///
    /// # Errors
    /// A use is unknown, the authority has expired at `not_before`, or it cannot sign.
    pub fn sign(
        mut self,
        authority: &Pair,
        uses: &[String],
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<String, String> {
        let failed = |error: rcgen::Error| error.to_string();
        let key = KeyPair::from_pem(&authority.key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&authority.certificate, key).map_err(failed)?;
        let last = expires(authority.certificate.as_bytes()).ok_or("the signer's certificate cannot be read")?;
        if not_before >= last {
            return Err(format!("the signer has expired: NotAfter={last}"));
        }
        let asked = &mut self.0.params;
        let mut params = CertificateParams::default();
        params.distinguished_name = asked.distinguished_name.clone();
        params.subject_alt_names = std::mem::take(&mut asked.subject_alt_names);
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = std::time::SystemTime::from(not_before).into();
        params.not_after = std::time::SystemTime::from(not_after.min(last)).into();
        params.use_authority_key_identifier_extension = true;
        for name in uses {
            let (_, known) =
                USES.iter().find(|(known, _)| known == name).ok_or(format!("unrecognized usage values: [{name:?}]"))?;
            match known {
                Use::Bit(bit) => params.key_usages.push(*bit),
                Use::Extended(oid) => params.extended_key_usages.push(Usage::Other(oid.to_vec())),
            }
        }
        *asked = params;
        Ok(self.0.signed_by(&issuer).map_err(failed)?.pem())
    }
}

const NO_REQUEST: &str = "PEM block type must be CERTIFICATE REQUEST";

fn text(value: &DnValue) -> String {
    match value {
        DnValue::Utf8String(text) => text.clone(),
        DnValue::PrintableString(text) => text.as_str().to_owned(),
        DnValue::Ia5String(text) => text.as_str().to_owned(),
        DnValue::TeletexString(text) => text.as_str().to_owned(),
        // Text of two or four bytes a character is no name that Kubernetes knows.
        _ => String::new(),
    }
}

/// When a certificate in PEM expires; none for what is none.
pub fn expires(certificate: &[u8]) -> Option<Timestamp> {
    Some(life(certificate)?.1)
}

/// When a certificate in PEM that somebody has had `since` then is to be exchanged for a new one: with a third of that
/// time left. None for what is none.
pub fn renewal_due(certificate: &[u8], since: Timestamp) -> Option<Timestamp> {
    let (from, until) = life(certificate)?;
    Some(until - until.duration_since(from.max(since)) / 3)
}

/// Whether a certificate in PEM is good for an address.
pub fn serves(certificate: &[u8], address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(certificate) else { return false };
    let Ok((_, certificate)) = X509Certificate::from_der(&block.contents) else { return false };
    let names = certificate.subject_alternative_name().ok().flatten();
    let mut names = names.iter().flat_map(|names| names.value.general_names.iter());
    names.any(|name| matches!(name, GeneralName::IPAddress(bytes) if **bytes == *octets))
}

fn life(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, block) = x509_parser::pem::parse_x509_pem(certificate).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    let validity = certificate.validity();
    let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((at(validity.not_before)?, at(validity.not_after)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::extensions::ParsedExtension;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn authority() -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = std::time::SystemTime::from(at("2026-01-01T00:00:00Z")).into();
        params.not_after = std::time::SystemTime::from(at("2027-01-01T00:00:00Z")).into();
        Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A node's request, which also asks to be an authority itself.
    fn request() -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:n");
        params.subject_alt_names = vec![SanType::DnsName("n.example.org".try_into().unwrap())];
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![Bit::KeyCertSign];
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn a_subject_that_cannot_be_kept_whole_is_refused() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), "ops");
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let refused = Request::read(pem.as_bytes()).unwrap_err();
        assert_eq!(refused, "the subject has several values of attribute 2.5.4.10, which is not supported");
    }

    #[test]
    fn a_certificate_serves_at_its_addresses() {
        let subject = Subject { user: "system:node:n", group: Some("system:nodes") };
        let [own, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let asked = super::request(subject, &["n"], &[own]).unwrap();
        let uses = ["server auth".to_owned()];
        let (from, until) = (at("2026-06-01T00:00:00Z"), at("2026-07-01T00:00:00Z"));
        let pem = Request::read(asked.certificate.as_bytes()).unwrap().sign(&authority(), &uses, from, until).unwrap();
        assert!(serves(pem.as_bytes(), own) && !serves(pem.as_bytes(), other));
    }

    #[test]
    fn what_is_asked_for_is_read_again() {
        let subject = Subject { user: "system:node:n", group: Some("system:nodes") };
        let address = IpAddr::from([10, 0, 0, 1]);
        let asked = super::request(subject, &["n"], &[address]).unwrap();
        let read = Request::read(asked.certificate.as_bytes()).unwrap();
        assert_eq!((read.common_name(), read.organizations()), ("system:node:n".into(), vec!["system:nodes".into()]));
        assert_eq!(
            read.names(),
            Names { dns_names: vec!["n".into()], ip_addresses: vec![address], ..Names::default() }
        );
    }

    fn signed(uses: &[&str], until: &str) -> Result<String, String> {
        let uses: Vec<String> = uses.iter().map(|u| (*u).to_string()).collect();
        let read = Request::read(request().as_bytes()).unwrap();
        read.sign(&authority(), &uses, at("2026-06-01T00:00:00Z"), at(until))
    }

    #[test]
    fn a_request_says_who_and_where() {
        let read = Request::read(request().as_bytes()).unwrap();
        assert_eq!(read.common_name(), "system:node:n");
        assert_eq!(read.organizations(), ["system:nodes"]);
        assert_eq!(read.names(), Names { dns_names: vec!["n.example.org".into()], ..Names::default() });
    }

    #[test]
    fn a_certificate_has_the_granted_uses_and_no_authority() {
        let pem = signed(&["digital signature", "client auth"], "2026-07-01T00:00:00Z").unwrap();
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&block.contents).unwrap();
        assert!(certificate.subject().to_string().contains("CN=system:node:n"), "{}", certificate.subject());
        let extensions: Vec<&ParsedExtension> = certificate.extensions().iter().map(|e| e.parsed_extension()).collect();
        assert!(extensions.iter().any(|e| matches!(e, ParsedExtension::BasicConstraints(b) if !b.ca)));
        let bits = extensions.iter().find_map(|e| match e {
            ParsedExtension::KeyUsage(bits) => Some((bits.digital_signature(), bits.key_cert_sign())),
            _ => None,
        });
        assert_eq!(bits, Some((true, false)));
        let uses = extensions.iter().find_map(|e| match e {
            ParsedExtension::ExtendedKeyUsage(uses) => Some((uses.client_auth, uses.server_auth)),
            _ => None,
        });
        assert_eq!(uses, Some((true, false)));
        assert_eq!(expires(pem.as_bytes()), Some(at("2026-07-01T00:00:00Z")));
        assert_eq!(renewal_due(pem.as_bytes(), at("2026-01-01T00:00:00Z")), Some(at("2026-06-21T00:00:00Z")));
        assert_eq!(renewal_due(pem.as_bytes(), at("2026-06-28T00:00:00Z")), Some(at("2026-06-30T00:00:00Z")));
    }

    #[test]
    fn a_certificate_does_not_outlive_its_authority() {
        let pem = signed(&["client auth"], "2030-01-01T00:00:00Z").unwrap();
        assert_eq!(expires(pem.as_bytes()), Some(at("2027-01-01T00:00:00Z")));
    }

    #[test]
    fn what_cannot_be_signed_says_why() {
        assert_eq!(signed(&["flying"], "2026-07-01T00:00:00Z").unwrap_err(), "unrecognized usage values: [\"flying\"]");
        assert_eq!(Request::read(b"rubbish").unwrap_err(), NO_REQUEST);
        let forged = request().replace("A", "B");
        assert!(Request::read(forged.as_bytes()).is_err());
    }
}
