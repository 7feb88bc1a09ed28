//! How a machine that wants to join comes to trust the cluster: the ConfigMap `cluster-info`, which anybody may read,
//! holds the cluster's authority, is signed by each bootstrap token, and the authority's key is known by its hash.
//!
//! kubernetes/kubernetes cmd/kubeadm/app/discovery/token, util/pubkeypin: decide what is compared.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::token::Token;

pub const NAMESPACE: &str = "kube-public";
pub const NAME: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";

/// Why a cluster is not trusted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    #[error(
        "the token {id:?} is none of this cluster's, or it has expired: `windlass token create` on the first node makes another"
    )]
    Unsigned { id: String },
    #[error(
        "the secret of the token {id:?} is wrong (the part after the dot): the cluster's signature is not by it. If the token is \
         right, this is not the cluster that made it"
    )]
    Forged { id: String },
    #[error(
        "--ca-hash {pinned} is not this cluster's, whose authority is {found}: the hash is wrong, or somebody else answers at \
         this address"
    )]
    OtherAuthority { pinned: String, found: String },
    #[error("{0}")]
    Malformed(String),
}

/// `sha256:<hex>` of the public key of an authority's certificate in PEM.
///
/// # Errors
/// It is no certificate.
pub fn ca_hash(certificate: &str) -> Result<String, Distrust> {
    let malformed = |error: String| Distrust::Malformed(format!("the authority's certificate cannot be read: {error}"));
    let (_, block) =
        x509_parser::pem::parse_x509_pem(certificate.as_bytes()).map_err(|error| malformed(error.to_string()))?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|error| malformed(error.to_string()))?;
    let digest = Sha256::digest(certificate.tbs_certificate.subject_pki.raw);
    Ok(digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}")))
}

/// A hash as it may be given: in any case of letters.
///
/// # Errors
/// It has not the form of one.
pub fn parse_hash(text: &str) -> Result<String, String> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.strip_prefix("sha256:").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text);
    }
    Err("a hash is `sha256:` and 64 hexadecimal digits".to_owned())
}

/// The data of the ConfigMap, before anybody has signed it.
pub fn cluster_info(server: &str, authority: &str) -> Value {
    let cluster = json!({"server": server, "certificate-authority-data": STANDARD.encode(authority)});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": cluster}],
        "contexts": null, "current-context": "", "preferences": {}, "users": null,
    });
    #[allow(clippy::expect_used, reason = "a JSON value of strings, lists and maps is always YAML")]
    let text = serde_yaml_ng::to_string(&config).expect("JSON is YAML");
    json!({KUBECONFIG: text})
}

fn cluster(text: Option<&String>) -> Result<Value, Distrust> {
    let malformed = || Distrust::Malformed("the kubeconfig in cluster-info names no cluster".to_owned());
    let mut config: Value = serde_yaml_ng::from_str(text.ok_or_else(malformed)?).map_err(|_| malformed())?;
    config.pointer_mut("/clusters/0/cluster").map(Value::take).ok_or_else(malformed)
}

/// Where the ConfigMap's data says that the API server is.
///
/// # Errors
/// It does not say so.
pub fn server(data: &BTreeMap<String, String>) -> Result<String, Distrust> {
    let cluster = cluster(data.get(KUBECONFIG))?;
    let server = cluster["server"].as_str();
    server.map(str::to_owned).ok_or_else(|| Distrust::Malformed("cluster-info names no server".to_owned()))
}

/// The cluster's authority in PEM, if the ConfigMap's data is signed by the token and the authority is the one expected.
///
/// # Errors
/// Any of it does not hold.
pub fn authority(data: &BTreeMap<String, String>, token: &Token, pinned: &str) -> Result<String, Distrust> {
    let id = || token.id().to_owned();
    let text = data.get(KUBECONFIG).ok_or_else(|| Distrust::Malformed("cluster-info has no kubeconfig".to_owned()))?;
    let signature =
        data.get(&format!("jws-kubeconfig-{}", token.id())).ok_or_else(|| Distrust::Unsigned { id: id() })?;
    if !token.signed(text, signature) {
        return Err(Distrust::Forged { id: id() });
    }
    let malformed = || Distrust::Malformed("the kubeconfig in cluster-info names no authority".to_owned());
    let cluster = cluster(Some(text))?;
    let encoded = cluster["certificate-authority-data"].as_str().ok_or_else(malformed)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| malformed())?;
    let authority = String::from_utf8(bytes).map_err(|_| malformed())?;
    let found = ca_hash(&authority)?;
    if found != pinned {
        return Err(Distrust::OtherAuthority { pinned: pinned.to_owned(), found });
    }
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use hmac::Mac;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn authority_pem() -> String {
        CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn signature(text: &str, secret: &str) -> String {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let mut mac = hmac::Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("e30.{}", URL_SAFE_NO_PAD.encode(text)).as_bytes());
        format!("e30..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn a_cluster_is_trusted_by_signature_and_hash() {
        let pem = authority_pem();
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let mut data: BTreeMap<String, String> =
            serde_json::from_value(cluster_info("https://10.0.0.1:6443", &pem)).unwrap();
        let hash = ca_hash(&pem).unwrap();
        assert_eq!(parse_hash(&hash.to_uppercase()).unwrap(), hash);
        assert_eq!(server(&data).unwrap(), "https://10.0.0.1:6443");
        assert_eq!(authority(&data, &token, &hash), Err(Distrust::Unsigned { id: "abcdef".into() }));
        let text = data["kubeconfig"].clone();
        data.insert("jws-kubeconfig-abcdef".into(), signature(&text, "fedcba9876543210"));
        assert_eq!(authority(&data, &token, &hash), Err(Distrust::Forged { id: "abcdef".into() }));
        data.insert("jws-kubeconfig-abcdef".into(), signature(&text, "0123456789abcdef"));
        assert_eq!(authority(&data, &token, &hash), Ok(pem));
        let other = ca_hash(&authority_pem()).unwrap();
        let refused = authority(&data, &token, &other).unwrap_err();
        assert_eq!(refused, Distrust::OtherAuthority { pinned: other, found: hash });
    }

    #[test]
    fn a_hash_has_a_form() {
        assert!(parse_hash("sha256:12").is_err());
        assert!(parse_hash(&"a".repeat(64)).is_err());
    }
}
