//! Signs `kube-public/cluster-info` with each bootstrap token, so that whoever holds one knows the cluster by it.
//!
//! kubernetes/kubernetes pkg/controller/bootstrap/bootstrapsigner.go, kubernetes/cluster-bootstrap token/jws: decide
//! which tokens sign, and the form: a detached JWS (RFC 7515, appendix F) by HMAC-SHA256.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha2::Sha256;

use super::{PREFIX, data, expired, is_token};
use crate::cache::{BootstrapToken, Cache, Change, ClusterInfo, Key, Of};
use crate::controller::{Controller, Cx};
use crate::meta;
use crate::plan::{Action, Plan};

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const SIGNATURE: &str = "jws-kubeconfig-";

pub static BOOTSTRAPSIGNER: Controller = Controller {
    name: "bootstrap-signer-controller",
    account: "bootstrap-signer",
    watches: &[(Of::BootstrapToken, the_one), (Of::ClusterInfo, the_one)],
    workers: 1,
    sync: |cx, _| gather(cx).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    info: Arc<ClusterInfo>,
    tokens: Vec<Arc<BootstrapToken>>,
}

fn the_one(_: &Cache, _: &Change, keys: &mut Vec<Key>) {
    keys.push(Key::new(NAMESPACE, NAME));
}

fn gather(cx: &Cx<'_>) -> Option<View> {
    let info = cx.cache.cluster_infos.get(NAMESPACE, NAME)?;
    Some(View { info, tokens: cx.cache.bootstrap_tokens.all() })
}

/// Id and secret of a token that may sign.
fn signs(token: &BootstrapToken, now: Timestamp) -> Option<(&str, &str)> {
    let secret = &token.0;
    let (id, key) = (data(secret, "token-id"), data(secret, "token-secret"));
    let named = meta::name(&secret.metadata).strip_prefix(PREFIX) == Some(id);
    let may = is_token(secret) && data(secret, "usage-bootstrap-signing") == "true" && !expired(secret, now);
    (may && named && !id.is_empty() && !key.is_empty()).then_some((id, key))
}

/// The JWS of `content` without the content.
fn detached(content: &str, id: &str, key: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": id}).to_string());
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
    Some(format!("{header}..{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let had = view.info.0.data.clone().unwrap_or_default();
    let Some(content) = had.get("kubeconfig") else { return plan };
    let mut wanted: BTreeMap<String, String> =
        had.iter().filter(|(key, _)| !key.starts_with(SIGNATURE)).map(|(k, v)| (k.clone(), v.clone())).collect();
    for token in &view.tokens {
        if let Some((id, key)) = signs(token, now)
            && let Some(signature) = detached(content, id, key)
        {
            wanted.insert(format!("{SIGNATURE}{id}"), signature);
        }
    }
    if wanted != had {
        plan.actions.push(Action::changed(view.info.as_ref(), |info| info.0.data = Some(wanted)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The joining machine compares the text of the whole signature; this one was made with OpenSSL's HMAC.
    #[test]
    fn the_signature_is_that_of_another_implementation() {
        let expected = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..psz1NayrXM3IaFzKZGsb5n_mBl7MjtlsZ1xE8MRmF_4";
        assert_eq!(detached("content", "abcdef", "0123456789abcdef").unwrap(), expected);
    }
}
