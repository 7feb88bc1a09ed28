//! ServiceAccount tokens: signing, verifying, and the keys that others verify them with.
//!
//! `kubernetes/kubernetes pkg/serviceaccount/{claims,jwt}.go: the claims, and what a token is bound to`.

use admit::UserInfo;
use base64::Engine;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use machinery::object;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::server::Inner;

/// Marks the token of a Secret that has been out of use for long.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

/// A deleted object still vouches for its tokens this long; clocks differ.
const LEEWAY_SECONDS: i64 = 60;

/// An object named in a token, with the uid it had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The private claims under `kubernetes.io`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bound {
    pub namespace: String,
    pub serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
    nbf: i64,
    sub: String,
}

/// The issuer of tokens that live as long as the Secret that holds them.
pub const SECRET_ISSUER: &str = "kubernetes/serviceaccount";

/// What a token says that a Secret of type `kubernetes.io/service-account-token` holds. It names no audience and never
/// expires: it is good while that Secret holds it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SecretClaims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    pub namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    pub secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    pub account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    pub account_uid: String,
}

#[derive(Deserialize)]
struct Issued {
    #[serde(default)]
    iss: String,
}

/// The key that signs tokens and verifies them.
pub struct Signer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    algorithm: Algorithm,
    jwk: Jwk,
    issuer: String,
}

/// A token that was found good.
#[derive(Debug)]
pub struct Verified {
    pub user: UserInfo,
    /// The token's audiences among those asked for.
    pub audiences: Vec<String>,
}

/// Whoever verifies a token looks the key up by its id: an upstream API server with the same key as well as we.
/// `kubernetes/kubernetes pkg/serviceaccount/jwt.go: keyIDFromPublicKey`.
fn key_id(private_pem: &[u8]) -> Option<String> {
    let key = PrivateKeyDer::from_pem_slice(private_pem).ok()?;
    let public = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).ok()?.public_key()?.into_owned();
    Some(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(Sha256::digest(&public)))
}

impl Signer {
    /// From an RSA or EC private key in PEM.
    pub fn new(private_pem: &[u8], issuer: &str) -> Result<Signer, jsonwebtoken::errors::Error> {
        let (encoding, algorithm) = match EncodingKey::from_rsa_pem(private_pem) {
            Ok(key) => (key, Algorithm::RS256),
            Err(_) => (EncodingKey::from_ec_pem(private_pem)?, Algorithm::ES256),
        };
        let mut jwk = Jwk::from_encoding_key(&encoding, algorithm)?;
        jwk.common.key_id = Some(match key_id(private_pem) {
            Some(id) => id,
            None => jwk.thumbprint(ThumbprintHash::SHA256)?,
        });
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&jwk)?;
        Ok(Signer { encoding, decoding, algorithm, jwk, issuer: issuer.to_owned() })
    }

    /// Signs a token that is good from `now` for so many seconds.
    pub fn sign(
        &self,
        bound: Bound,
        audiences: Vec<String>,
        now: Timestamp,
        seconds: i64,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: self.jwk.common.key_id.clone(), typ: None, ..Header::new(self.algorithm) };
        let claims = Claims {
            aud: audiences,
            exp: now.as_second() + seconds,
            iat: now.as_second(),
            iss: self.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: format!("system:serviceaccount:{}:{}", bound.namespace, bound.serviceaccount.name),
            kubernetes: bound,
            nbf: now.as_second(),
        };
        jsonwebtoken::encode(&header, &claims, &self.encoding)
    }

    /// Signs the token of a ServiceAccount token Secret.
    pub fn sign_for_secret(
        &self,
        namespace: &str,
        account: &str,
        account_uid: &str,
        secret: &str,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let header = Header { kid: self.jwk.common.key_id.clone(), typ: None, ..Header::new(self.algorithm) };
        let claims = SecretClaims {
            iss: SECRET_ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{namespace}:{account}"),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: account.to_owned(),
            account_uid: account_uid.to_owned(),
        };
        jsonwebtoken::encode(&header, &claims, &self.encoding)
    }

    fn read_for_secret(&self, token: &str) -> Result<SecretClaims, String> {
        let mut validation = Validation::new(self.algorithm);
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.set_issuer(&[SECRET_ISSUER]);
        validation.set_required_spec_claims(&["iss", "sub"]);
        let data = jsonwebtoken::decode::<SecretClaims>(token, &self.decoding, &validation);
        data.map(|data| data.claims).map_err(|error| error.to_string())
    }

    fn read(&self, token: &str) -> Result<Claims, String> {
        let mut validation = Validation::new(self.algorithm);
        validation.validate_aud = false;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation);
        data.map(|data| data.claims).map_err(|error| error.to_string())
    }

    /// `/openid/v1/jwks`
    pub fn jwks(&self) -> Value {
        let set = JwkSet { keys: vec![self.jwk.clone()] };
        serde_json::to_value(set).unwrap_or_else(|_| json!({ "keys": [] }))
    }

    /// `/.well-known/openid-configuration`
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        let algorithm = if self.algorithm == Algorithm::RS256 { "RS256" } else { "ES256" };
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [algorithm],
        })
    }
}

/// Verifies a token for one of `audiences` (the API server's own, when none is named).
pub async fn authenticate(server: &Inner, token: &str, audiences: &[String]) -> Result<Verified, String> {
    // Whose rules apply is read before the signature is: both readers then check it.
    let issued =
        jsonwebtoken::dangerous::insecure_decode_claims::<Issued>(token).map_err(|_| "invalid bearer token")?;
    if issued.iss == SECRET_ISSUER {
        return authenticate_by_secret(server, token, audiences).await;
    }
    let claims = server.signer.read(token)?;
    let wanted = if audiences.is_empty() { &server.config.audiences } else { audiences };
    let matching: Vec<String> = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
    if matching.is_empty() {
        return Err(format!("token audiences {:?} is invalid for the target audiences {wanted:?}", claims.aud));
    }
    let bound = &claims.kubernetes;
    check(server, "serviceaccounts", &bound.namespace, &bound.serviceaccount).await?;
    if let Some(secret) = &bound.secret {
        check(server, "secrets", &bound.namespace, secret).await?;
    }
    match (&bound.pod, &bound.node) {
        // The node of a pod's token only says where the pod runs.
        (Some(pod), _) => check(server, "pods", &bound.namespace, pod).await?,
        (None, Some(node)) => check(server, "nodes", "", node).await?,
        (None, None) => {}
    }
    Ok(Verified { user: user(&claims), audiences: matching })
}

/// A token that its Secret still holds, for an account that is still there; it is meant for the API server alone.
async fn authenticate_by_secret(server: &Inner, token: &str, audiences: &[String]) -> Result<Verified, String> {
    let own = &server.config.audiences;
    let wanted = if audiences.is_empty() { own } else { audiences };
    let matching: Vec<String> = wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
    if matching.is_empty() {
        return Err(format!("token audiences {own:?} is invalid for the target audiences {wanted:?}"));
    }
    let claims = server.signer.read_for_secret(token)?;
    if claims.sub != format!("system:serviceaccount:{}:{}", claims.namespace, claims.account) {
        return Err("sub claim is invalid".into());
    }
    let secret = kinds::by_resource("", "v1", "secrets").ok_or("no such kind")?;
    let found = server.registry.get(secret, &claims.namespace, &claims.secret).await.map_err(|s| s.message)?;
    let secret = found.ok_or("Token has been invalidated")?.value;
    if secret.pointer("/metadata/deletionTimestamp").is_some() {
        return Err("Token has been invalidated".into());
    }
    let held = secret.pointer("/data/token").and_then(Value::as_str).unwrap_or_default();
    let held = base64::engine::general_purpose::STANDARD.decode(held).map_err(|error| error.to_string())?;
    // The signature has been checked: only another token of the same Secret could come near, so timing tells nothing.
    if held != token.as_bytes() {
        return Err("Token does not match server's copy".into());
    }
    let account = Reference { name: claims.account.clone(), uid: claims.account_uid.clone() };
    check(server, "serviceaccounts", &claims.namespace, &account).await?;
    let (namespace, name) = (&claims.namespace, &claims.secret);
    if object::label(&secret, INVALID_SINCE).is_some_and(|since| !since.is_empty()) {
        return Err(format!(
            "the token in secret {namespace}/{name} for service account {namespace}/{} has been marked invalid. Use \
             tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' \
             label from the secret to temporarily allow use of this token",
            claims.account
        ));
    }
    let namespace_group = format!("system:serviceaccounts:{namespace}");
    let mut user = UserInfo::new(claims.sub, &["system:serviceaccounts", &namespace_group]);
    user.uid = claims.account_uid;
    Ok(Verified { user, audiences: matching })
}

fn user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let namespace_group = format!("system:serviceaccounts:{}", bound.namespace);
    let mut user = UserInfo::new(claims.sub.clone(), &["system:serviceaccounts", &namespace_group]);
    user.uid = bound.serviceaccount.uid.clone();
    let mut extra = |key: &str, value: String| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
    };
    if !claims.jti.is_empty() {
        extra("credential-id", format!("JTI={}", claims.jti));
    }
    if let Some(node) = &bound.node {
        extra("node-name", node.name.clone());
        extra("node-uid", node.uid.clone());
    }
    if let Some(pod) = &bound.pod {
        extra("pod-name", pod.name.clone());
        extra("pod-uid", pod.uid.clone());
    }
    user
}

/// The object must be there, be the same one, and not be deleted for longer than clocks may differ.
async fn check(server: &Inner, plural: &str, namespace: &str, reference: &Reference) -> Result<(), String> {
    let kind = kinds::by_resource("", "v1", plural).ok_or("no such kind")?;
    let found = server.registry.get(kind, namespace, &reference.name).await.map_err(|status| status.message)?;
    let object = found.ok_or_else(|| format!("{plural} {namespace}/{} not found", reference.name))?.value;
    if object.pointer("/metadata/uid").and_then(Value::as_str) != Some(reference.uid.as_str()) {
        return Err(format!("{plural} UID does not match claim ({})", reference.uid));
    }
    let deleted: Option<Timestamp> =
        object.pointer("/metadata/deletionTimestamp").and_then(Value::as_str).and_then(|text| text.parse().ok());
    if deleted.is_some_and(|at| at.as_second() < Timestamp::now().as_second() - LEEWAY_SECONDS) {
        return Err(format!("{plural} {namespace}/{} has been deleted", reference.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_until_it_expires_and_only_from_its_issuer() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let signer = Signer::new(key.as_bytes(), "https://issuer").unwrap();
        let account = Reference { name: "default".to_owned(), uid: "u".to_owned() };
        let bound = Bound { namespace: "ns".to_owned(), serviceaccount: account, ..Bound::default() };
        let now = Timestamp::now();
        let made = |ago: i64, seconds: i64| {
            let then = now.checked_sub(jiff::SignedDuration::from_secs(ago)).unwrap();
            signer.read(&signer.sign(bound.clone(), vec!["a".to_owned()], then, seconds).unwrap())
        };
        assert_eq!(made(3000, 3600).unwrap().sub, "system:serviceaccount:ns:default");
        assert_eq!(made(7200, 3600).unwrap_err(), "ExpiredSignature");
        assert_eq!(made(-3600, 7200).unwrap_err(), "ImmatureSignature");
        let token = signer.sign(bound.clone(), vec!["a".to_owned()], now, 3600).unwrap();
        let elsewhere = Signer::new(key.as_bytes(), "https://other").unwrap();
        assert_eq!(elsewhere.read(&token).unwrap_err(), "InvalidIssuer");
        let forger = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let forged = Signer::new(forger.as_bytes(), "https://issuer").unwrap().sign(bound, vec![], now, 3600).unwrap();
        assert_eq!(signer.read(&forged).unwrap_err(), "InvalidSignature");
    }

    #[test]
    fn a_key_is_known_by_the_hash_of_its_public_half() {
        use rcgen::PublicKeyData;
        let key = rcgen::KeyPair::generate().unwrap();
        let signer = Signer::new(key.serialize_pem().as_bytes(), "https://issuer").unwrap();
        let hash = Sha256::digest(key.subject_public_key_info());
        let expected = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash);
        assert_eq!(signer.jwk.common.key_id, Some(expected));
    }
}
