//! Bootstrap tokens: `id.secret`, held by a Secret in `kube-system`, by which a new machine asks for its certificate.
//!
//! `kubernetes/kubernetes plugin/pkg/auth/authenticator/token/bootstrap/bootstrap.go: which Secrets count, and who
//! their holders are`.

use admit::UserInfo;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use machinery::object;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::server::Inner;

const GROUP: &str = "system:bootstrappers";

/// A token as it is shown.
#[derive(Debug, PartialEq, Eq)]
pub struct Token<'a> {
    id: &'a str,
    secret: &'a str,
}

/// Six and sixteen letters or digits; none: it is a token of another kind.
pub fn parse(bearer: &str) -> Option<Token<'_>> {
    let (id, secret) = bearer.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some(Token { id, secret })
}

/// The user of a token that its Secret holds.
///
/// # Errors
/// There is no such Secret, or it does not say that this token may authenticate now.
pub async fn authenticate(server: &Inner, token: &Token<'_>) -> Result<UserInfo, String> {
    let kind = kinds::by_resource("", "v1", "secrets").ok_or("no such kind")?;
    let name = format!("bootstrap-token-{}", token.id);
    let found = server.registry.get(kind, "kube-system", &name).await.map_err(|status| status.message)?;
    judge(&found.ok_or("no such bootstrap token")?.value, token, Timestamp::now())
}

fn judge(secret: &Value, token: &Token<'_>, now: Timestamp) -> Result<UserInfo, String> {
    let data = |field: &str| {
        let text = object::at(secret, &["data", field]).and_then(Value::as_str).unwrap_or_default();
        STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
    };
    if object::is_being_deleted(secret) {
        return Err("is deleted and awaiting removal".into());
    }
    if secret.get("type").and_then(Value::as_str) != Some("bootstrap.kubernetes.io/token") {
        return Err("has invalid type, expected bootstrap.kubernetes.io/token.".into());
    }
    // Digests are compared, so that the time taken says nothing of the secret.
    if Sha256::digest(data("token-secret")) != Sha256::digest(token.secret) {
        return Err("has invalid value for key token-secret.".into());
    }
    if data("token-id") != token.id {
        return Err("has invalid value for key token-id.".into());
    }
    let expiration = data("expiration");
    if !expiration.is_empty() && !expiration.parse::<Timestamp>().is_ok_and(|at| at > now) {
        return Err("has expired".into());
    }
    if data("usage-bootstrap-authentication") != "true" {
        return Err("not marked usage-bootstrap-authentication=true.".into());
    }
    let extra = data("auth-extra-groups");
    let mut groups = vec![GROUP];
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !valid_group(group) {
            return Err(format!("has invalid value for key auth-extra-groups: {group:?}"));
        }
        groups.push(group);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(UserInfo::new(format!("system:bootstrap:{}", token.id), &groups))
}

/// `system:bootstrappers:` and up to 256 of `a-z0-9:-`, the last of them no punctuation.
fn valid_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=256).contains(&rest.len())
        && rest.as_bytes().iter().all(|b| plain(b) || b":-".contains(b))
        && rest.as_bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOKEN: Token<'static> = Token { id: "abcdef", secret: "0123456789abcdef" };

    fn secret(fields: &[(&str, &str)]) -> Value {
        let mut secret = json!({"type": "bootstrap.kubernetes.io/token", "metadata": {}, "data": {}});
        let own = [("token-id", TOKEN.id), ("token-secret", TOKEN.secret), ("usage-bootstrap-authentication", "true")];
        for (field, value) in own.iter().chain(fields) {
            secret["data"][*field] = json!(STANDARD.encode(value));
        }
        secret
    }

    fn judged(fields: &[(&str, &str)]) -> Result<UserInfo, String> {
        judge(&secret(fields), &TOKEN, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn what_looks_like_a_bootstrap_token() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(TOKEN));
        for other in ["abcdef.0123456789abcde", "Abcdef.0123456789abcdef", "a.b.c", "abcdef0123456789abcdef"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_holder_is_a_bootstrapper() {
        let user = judged(&[("expiration", "2026-01-01T00:00:01Z")]).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, [GROUP, "system:authenticated"]);
        let joining = "system:bootstrappers:kubeadm:default-node-token";
        let user = judged(&[("auth-extra-groups", joining)]).unwrap();
        assert_eq!(user.groups, [GROUP, joining, "system:authenticated"]);
    }

    #[test]
    fn a_token_that_may_not_says_why() {
        for (field, value, reason) in [
            ("token-secret", "fedcba9876543210", "has invalid value for key token-secret."),
            ("token-id", "fedcba", "has invalid value for key token-id."),
            ("expiration", "2026-01-01T00:00:00Z", "has expired"),
            ("expiration", "soon", "has expired"),
            ("usage-bootstrap-authentication", "false", "not marked usage-bootstrap-authentication=true."),
            ("auth-extra-groups", "system:masters", "has invalid value for key auth-extra-groups: \"system:masters\""),
        ] {
            assert_eq!(judged(&[(field, value)]).unwrap_err(), reason, "{field}");
        }
        let mut opaque = secret(&[]);
        opaque["type"] = json!("Opaque");
        assert!(judge(&opaque, &TOKEN, Timestamp::UNIX_EPOCH).is_err());
    }
}
