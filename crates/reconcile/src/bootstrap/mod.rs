//! Bootstrap tokens: what a machine that wants to join shows the cluster, and by which it knows the cluster.
//!
//! kubernetes/cluster-bootstrap: decides the names and fields of their Secrets.

pub(crate) mod cleaner;
pub(crate) mod signer;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::meta;

const SECRETS: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";

fn data<'a>(secret: &'a Secret, field: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(field));
    bytes.and_then(|b| std::str::from_utf8(&b.0).ok()).unwrap_or("")
}

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(TYPE) && meta::namespace(&secret.metadata) == SECRETS
}

/// When the token expires; none: never. One that does not say so readably has expired.
fn expires(secret: &Secret) -> Option<Timestamp> {
    let text = data(secret, "expiration");
    (!text.is_empty()).then(|| text.parse().unwrap_or(Timestamp::MIN))
}

fn expired(secret: &Secret, now: Timestamp) -> bool {
    expires(secret).is_some_and(|at| at <= now)
}
