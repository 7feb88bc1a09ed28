//! Webhooks as configured, read once per version of their configuration.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, WebhookClientConfig};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::{Conditions, Criteria};

/// What defaulting gives a webhook without a timeout.
const TIMEOUT_SECONDS: i32 = 10;

/// A `MutatingWebhookConfiguration` or a `ValidatingWebhookConfiguration`, ready to be asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Written")]
pub struct Configuration {
    pub webhooks: Vec<Webhook>,
}

/// The two kinds of configuration differ in one field, which validating webhooks do not have.
#[derive(Deserialize)]
struct Written {
    metadata: ObjectMeta,
    #[serde(default)]
    webhooks: Vec<MutatingWebhook>,
}

#[derive(Clone, Debug)]
pub struct Webhook {
    /// Tells apart webhooks of one name.
    pub id: String,
    pub name: String,
    pub criteria: Criteria,
    pub conditions: Conditions,
    /// A webhook that cannot be asked is as one that agrees.
    pub ignore_failures: bool,
    pub timeout: Duration,
    /// It may be asked of a request that is not to change anything.
    pub takes_dry_run: bool,
    /// It is asked again when others have changed the object after it.
    pub again_if_needed: bool,
    /// The review's version, the first that both sides speak.
    pub version: Option<&'static str>,
    pub client: Client,
}

/// Where a webhook is, and by whom its certificate must be signed.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub url: Option<String>,
    pub service: Option<ServicePath>,
    /// PEM; empty: the system's authorities.
    pub ca_bundle: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct ServicePath {
    pub namespace: String,
    pub name: String,
    pub path: String,
    pub port: u16,
}

impl From<Written> for Configuration {
    fn from(written: Written) -> Configuration {
        let name = written.metadata.name.unwrap_or_default();
        let webhooks = written.webhooks.into_iter().enumerate();
        Configuration {
            webhooks: webhooks.map(|(at, webhook)| Webhook::new(&format!("{name}/{at}"), webhook)).collect(),
        }
    }
}

impl Webhook {
    fn new(id: &str, written: MutatingWebhook) -> Webhook {
        let seconds = written.timeout_seconds.filter(|seconds| *seconds > 0).unwrap_or(TIMEOUT_SECONDS);
        let spoken = |wanted: &String| super::VERSIONS.into_iter().find(|version| version == wanted);
        Webhook {
            id: id.to_owned(),
            criteria: Criteria::of_webhook(
                written.rules.as_deref().unwrap_or_default(),
                written.match_policy.as_deref(),
                written.namespace_selector.as_ref(),
                written.object_selector.as_ref(),
            ),
            conditions: Conditions::of(written.match_conditions.as_ref()),
            ignore_failures: written.failure_policy.as_deref() == Some("Ignore"),
            timeout: Duration::from_secs(u64::from(seconds.unsigned_abs())),
            takes_dry_run: matches!(written.side_effects.as_str(), "None" | "NoneOnDryRun"),
            again_if_needed: written.reinvocation_policy.as_deref() == Some("IfNeeded"),
            version: written.admission_review_versions.iter().find_map(spoken),
            client: Client::from(&written.client_config),
            name: written.name,
        }
    }
}

impl From<&WebhookClientConfig> for Client {
    fn from(config: &WebhookClientConfig) -> Client {
        let service = config.service.as_ref().map(|service| ServicePath {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            path: service.path.clone().unwrap_or_default(),
            port: service.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(443),
        });
        let ca_bundle = config.ca_bundle.as_ref().map(|bundle| bundle.0.clone()).unwrap_or_default();
        Client { url: config.url.clone(), service, ca_bundle }
    }
}
