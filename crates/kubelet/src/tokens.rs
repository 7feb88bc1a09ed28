//! Service account tokens for pods, asked for once and again when four fifths of their life are over.
//!
//! kubernetes/kubernetes pkg/kubelet/token/token_manager.go: when a token is refreshed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::Api;
use kube::api::PostParams;

/// Pod uid, audience, seconds of life.
type Key = (String, String, i64);

const LIFE_DEFAULT_SECONDS: i64 = 3600;
/// However long it lives, a token is renewed after a day.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(24);

#[derive(Clone)]
struct Held {
    token: String,
    renew_at: Timestamp,
}

#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Key, Held>>);

impl Tokens {
    /// A token for `pod` by the projection, and when to come back for the next.
    ///
    /// # Errors
    /// The API server's answer; a held token that is still good is given instead where there is one.
    pub(crate) async fn get(
        &self,
        client: &kube::Client,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
    ) -> Result<(String, Timestamp), String> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let seconds = projection.expiration_seconds.unwrap_or(LIFE_DEFAULT_SECONDS);
        let key = (uid, projection.audience.clone().unwrap_or_default(), seconds);
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let now = Timestamp::now();
        if let Some(held) = held.as_ref().filter(|held| now < held.renew_at) {
            return Ok((held.token.clone(), held.renew_at));
        }
        match request(client, pod, projection, seconds).await {
            Ok((token, expires)) => {
                let life = expires.duration_since(now);
                let renew_at = now.checked_add((life * 4 / 5).min(AGE_MAX)).unwrap_or(expires);
                let fresh = Held { token: token.clone(), renew_at };
                self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, fresh);
                Ok((token, renew_at))
            }
            Err(error) => match held {
                Some(held) => {
                    tracing::warn!(error, "token not renewed; the old one stays for now");
                    Ok((held.token, now.checked_add(SignedDuration::from_secs(30)).unwrap_or(now)))
                }
                None => Err(error),
            },
        }
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _, _), _| of != uid);
    }
}

async fn request(
    client: &kube::Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
    seconds: i64,
) -> Result<(String, Timestamp), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).unwrap_or("default");
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: projection
                .audience
                .clone()
                .filter(|audience| !audience.is_empty())
                .map(|audience| vec![audience]),
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let answer = api.create_token_request(account, &PostParams::default(), &wanted).await;
    let answer = answer.map_err(|error| format!("failed to fetch token: {}", crate::api_error(&error)))?;
    let status = answer.status.ok_or("failed to fetch token: the answer has none")?;
    let (token, expires) =
        status.token.zip(status.expiration_timestamp).ok_or("failed to fetch token: the answer has none")?;
    Ok((token, expires.0))
}
