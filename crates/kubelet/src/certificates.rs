//! Certificates for pods (`podCertificate` projections): a key made here, a PodCertificateRequest that some signer
//! answers, and the same again when the signer says that it is time.
//!
//! kubernetes/kubernetes pkg/kubelet/podcertificate/podcertificatemanager.go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    PodCertificateRequest, PodCertificateRequestSpec, PodCertificateRequestStatus,
};
use k8s_openapi::api::core::v1::{Node, Pod, PodCertificateProjection, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use pods::projection::Credential;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize};

use crate::host::Host;

/// How long a pod that is being set up waits for its signer at a time.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// When to come back for what could not be renewed.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What is known of one projection.
#[derive(Default)]
struct Slot {
    held: Option<(Credential, Timestamp)>,
    asked: Option<Asked>,
    /// The signer's last word.
    refused: Option<String>,
}

/// A request that has not been answered yet.
struct Asked {
    key: String,
    name: String,
}

type Slots = Vec<(PodCertificateProjection, Arc<tokio::sync::Mutex<Slot>>)>;

/// The certificates of the node's pods, by pod uid.
#[derive(Default)]
pub(crate) struct Certificates(Mutex<HashMap<String, Slots>>);

impl Certificates {
    /// The key and certificates for `pod` by the projection, and when to come back for the next.
    ///
    /// # Errors
    /// There are none yet; the signer refused; the API server's answer.
    pub(crate) async fn get(
        &self,
        host: &Host,
        pod: &Pod,
        projection: &PodCertificateProjection,
    ) -> Result<(Credential, Timestamp), String> {
        let slot = self.slot(pod.metadata.uid.as_deref().unwrap_or_default(), projection);
        let mut slot = slot.lock().await;
        if let Some(held) = slot.held.as_ref().filter(|(_, renew_at)| Timestamp::now() < *renew_at) {
            return Ok(held.clone());
        }
        match slot.renew(host, pod, projection).await {
            Ok(fresh) => Ok(slot.held.insert(fresh).clone()),
            Err(error) => match &slot.held {
                Some((credential, _)) => {
                    tracing::warn!(
                        error,
                        pod = pod.metadata.name,
                        "certificate not renewed; the old one stays for now"
                    );
                    Ok((credential.clone(), Timestamp::now().checked_add(AGAIN).unwrap_or(Timestamp::MAX)))
                }
                None => Err(error),
            },
        }
    }

    fn slot(&self, uid: &str, projection: &PodCertificateProjection) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = all.entry(uid.to_string()).or_default();
        if let Some((_, slot)) = slots.iter().find(|(known, _)| known == projection) {
            return Arc::clone(slot);
        }
        let slot = Arc::default();
        slots.push((projection.clone(), Arc::clone(&slot)));
        slot
    }

    pub(crate) fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

impl Slot {
    async fn renew(
        &mut self,
        host: &Host,
        pod: &Pod,
        projection: &PodCertificateProjection,
    ) -> Result<(Credential, Timestamp), String> {
        if let Some(words) = &self.refused {
            return Err(words.clone());
        }
        let asked = match self.asked.take() {
            Some(asked) => asked,
            None => ask(host, pod, projection).await?,
        };
        let asked = self.asked.insert(asked);
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let api: Api<PodCertificateRequest> = Api::namespaced(host.client.clone(), namespace);
        let answer = tokio::time::timeout(ANSWER_WAIT, answered(api, &host.config.node_name, &asked.name)).await;
        let answer =
            answer.map_err(|_| format!("PodCertificateRequest {namespace}/{} is not issued yet", asked.name))?;
        let key = std::mem::take(&mut asked.key);
        let name = std::mem::take(&mut asked.name);
        self.asked = None;
        let status = answer.ok_or_else(|| format!("PodCertificateRequest {namespace}/{name} is gone"))?;
        if let Some(words) = refusal(&status) {
            return Err(self.refused.insert(format!("PodCertificateRequest {namespace}/{name} {words}")).clone());
        }
        let chain = pods::trust::normalized(status.certificate_chain.as_deref())?;
        let renew_at = status.begin_refresh_at.map_or(Timestamp::MAX, |at| at.0);
        Ok((Credential { key, chain }, renew_at))
    }
}

/// What the signer said instead of a certificate.
fn refusal(status: &PodCertificateRequestStatus) -> Option<String> {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ != "Issued")?;
    let verb = if condition.type_ == "Denied" { "was denied" } else { "failed" };
    Some(format!("{verb}, reason={:?}, message={:?}", condition.reason, condition.message))
}

/// The status once a condition tells the outcome; `None` when the request has been deleted.
async fn answered(api: Api<PodCertificateRequest>, node: &str, name: &str) -> Option<PodCertificateRequestStatus> {
    // A kubelet may watch the requests of its node alone.
    let only = watcher::Config::default().fields(&format!("spec.nodeName={node},metadata.name={name}"));
    let mut events = watcher(api, only).default_backoff().boxed();
    let mut seen = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(request) | watcher::Event::InitApply(request)) => {
                seen = true;
                let status = request.status.unwrap_or_default();
                if status.conditions.as_ref().is_some_and(|conditions| !conditions.is_empty()) {
                    return Some(status);
                }
            }
            Ok(watcher::Event::Delete(_)) => return None,
            Ok(watcher::Event::InitDone) if !seen => return None,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, name, "watch of a certificate request"),
        }
    }
    None
}

/// Makes a key and asks the signer for a certificate of it.
async fn ask(host: &Host, pod: &Pod, projection: &PodCertificateProjection) -> Result<Asked, String> {
    let told = |what: &str, error: &kube::Error| format!("while {what}: {}", crate::api_error(error));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let accounts: Api<ServiceAccount> = Api::namespaced(host.client.clone(), namespace);
    let account = accounts.get_metadata(account).await.map_err(|e| told("getting the service account", &e))?;
    let nodes: Api<Node> = Api::all(host.client.clone());
    let node = nodes.get_metadata(&host.config.node_name).await.map_err(|e| told("getting the node", &e))?;
    let (key, stub) =
        key_and_stub(&projection.key_type).map_err(|error| format!("while generating keypair: {error}"))?;
    let (pod_name, pod_uid) =
        (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.uid.clone().unwrap_or_default());
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod_name.clone(),
        uid: pod_uid.clone(),
        ..OwnerReference::default()
    };
    let request = PodCertificateRequest {
        metadata: ObjectMeta {
            generate_name: Some("req-".into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: PodCertificateRequestSpec {
            signer_name: projection.signer_name.clone(),
            pod_name,
            pod_uid,
            service_account_name: account.metadata.name.unwrap_or_default(),
            service_account_uid: account.metadata.uid.unwrap_or_default(),
            node_name: host.config.node_name.clone(),
            node_uid: node.metadata.uid.unwrap_or_default(),
            max_expiration_seconds: projection.max_expiration_seconds,
            stub_pkc_s10_request: ByteString(stub),
            unverified_user_annotations: projection.user_annotations.clone(),
        },
        ..PodCertificateRequest::default()
    };
    let api: Api<PodCertificateRequest> = Api::namespaced(host.client.clone(), namespace);
    let made = api.create(&PostParams::default(), &request).await.map_err(|e| told("creating on API", &e))?;
    Ok(Asked { key, name: made.metadata.name.unwrap_or_default() })
}

/// A private key (PKCS #8, PEM) and a request of it that asks for nothing (PKCS #10, DER), which proves who has the key.
fn key_and_stub(key_type: &str) -> Result<(String, Vec<u8>), rcgen::Error> {
    let key = match key_type {
        "RSA3072" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072)?,
        "RSA4096" => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096)?,
        "ECDSAP384" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)?,
        "ECDSAP521" => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512)?,
        "ED25519" => KeyPair::generate_for(&rcgen::PKCS_ED25519)?,
        _ => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
    };
    let mut stub = CertificateParams::default();
    stub.distinguished_name = DistinguishedName::new();
    let stub = stub.serialize_request(&key)?;
    Ok((key.serialize_pem(), stub.der().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_can_be_made() {
        for kind in ["RSA3072", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"] {
            let (key, stub) = key_and_stub(kind).unwrap();
            assert!(key.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{kind}");
            if kind == "ECDSAP521" {
                // The reader of requests knows no signature of this curve.
                continue;
            }
            let parsed = rcgen::CertificateSigningRequestParams::from_der(&stub.into());
            let parsed = parsed.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(parsed.params.distinguished_name.iter().count(), 0, "{kind}");
            assert!(parsed.params.subject_alt_names.is_empty(), "{kind}");
        }
    }
}
