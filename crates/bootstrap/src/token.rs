//! Bootstrap tokens, `id.secret`: what a machine that wants to join shows the cluster, and by which it knows the cluster.
//!
//! kubernetes/cluster-bootstrap token/api, token/jws: decide the form, the Secret and the signature.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use rand::Rng;
use serde_json::{Value, json};
use sha2::Sha256;

/// Whom the holders of our tokens are among: the group that kubeadm's bindings name.
pub const JOINING_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Where the Secrets of tokens are.
pub const NAMESPACE: &str = "kube-system";
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is six and sixteen lower case letters or digits with a dot between, as abcdef.0123456789abcdef")]
pub struct NoToken;

/// A token; what it prints is all that it takes to join.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Token, NoToken> {
        let (id, secret) = text.trim().split_once('.').ok_or(NoToken)?;
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if id.len() != ID_LENGTH || secret.len() != SECRET_LENGTH || !plain(id) || !plain(secret) {
            return Err(NoToken);
        }
        Ok(Token { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl Token {
    pub fn generate() -> Token {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let mut random = rand::rng();
        let mut word =
            |length| (0..length).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect();
        Token { id: word(ID_LENGTH), secret: word(SECRET_LENGTH) }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The Secret that makes the token one, until it expires.
    pub fn secret(&self, expires: Option<Timestamp>, description: Option<&str>) -> Value {
        let mut data = json!({
            "token-id": self.id,
            "token-secret": self.secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": JOINING_GROUP,
        });
        if let Some(expires) = expires {
            // Whole seconds, as upstream writes them.
            data["expiration"] = json!(format!("{}", expires.strftime("%Y-%m-%dT%H:%M:%SZ")));
        }
        if let Some(description) = description {
            data["description"] = json!(description);
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
            "metadata": {"name": secret_name(&self.id), "namespace": NAMESPACE},
            "stringData": data,
        })
    }

    /// Whether a detached JWS is the signature of `content` by this token.
    pub fn signed(&self, content: &str, signature: &str) -> bool {
        let Some((header, mac)) = signature.split_once("..") else { return false };
        let Ok(mac) = URL_SAFE_NO_PAD.decode(mac) else { return false };
        let Ok(mut expected) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else { return false };
        expected.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
        expected.verify_slice(&mac).is_ok()
    }
}

/// The name of the Secret of a token.
pub fn secret_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_it_prints() {
        let token = Token::generate();
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_ne!(token, Token::generate());
        assert_eq!(format!("{token:?}"), format!("Token({})", token.id()));
        for other in ["abcdef", "abcdef.0123456789abcde", "Abcdef.0123456789abcdef", "abcdef.0123456789abcde!"] {
            assert_eq!(other.parse::<Token>(), Err(NoToken), "{other}");
        }
    }

    /// The signature was made with another implementation (OpenSSL's HMAC).
    #[test]
    fn a_signature_is_of_one_text_by_one_secret() {
        let signature = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4";
        let token = |text: &str| text.parse::<Token>().unwrap();
        assert!(token("abcdef.0123456789abcdef").signed("content", signature));
        assert!(!token("abcdef.0123456789abcdef").signed("other", signature));
        assert!(!token("abcdef.fedcba9876543210").signed("content", signature));
        assert!(!token("abcdef.0123456789abcdef").signed("content", "rubbish"));
    }

    #[test]
    fn the_secret_of_a_token() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        let secret = token.secret(Some("2026-01-01T00:00:00.5Z".parse().unwrap()), None);
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(secret["stringData"]["expiration"], "2026-01-01T00:00:00Z");
        assert!(token.secret(None, None)["stringData"].get("expiration").is_none());
    }
}
