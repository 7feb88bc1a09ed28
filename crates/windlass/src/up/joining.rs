//! Publishes what machines that want to join must find in the cluster. Nobody waits for it.

use std::time::Duration;

use anyhow::Context;
use bootstrap::joining::{self, ClusterFacts};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::Value;

use super::FIELD_MANAGER;
use crate::config::Settings;
use crate::node::Clients;
use crate::version;

const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Tries until it is done.
pub async fn publish(client: kube::Client, settings: Settings, server: String, authority: String) {
    let mut objects = joining::objects(&server, &facts(&settings), &Clients::agents());
    objects.push(joining::cluster_info(&server, &authority));
    for object in &objects {
        while let Err(error) = apply(&client, object).await {
            tracing::warn!(error = format!("{error:#}"), "what joining needs is not published yet");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}

fn facts(settings: &Settings) -> ClusterFacts {
    ClusterFacts {
        version: version::KUBERNETES.to_owned(),
        pod_subnet: settings.cluster_range.to_string(),
        service_subnet: settings.service_range.to_string(),
        dns_domain: settings.cluster_domain.clone(),
        dns_address: settings.dns_address(),
    }
}

async fn apply(client: &kube::Client, object: &Value) -> anyhow::Result<()> {
    let parsed: DynamicObject = serde_json::from_value(object.clone())?;
    let types = parsed.types.context("an object without a kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?);
    let (name, namespace) = (parsed.metadata.name.unwrap_or_default(), parsed.metadata.namespace);
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let how = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(&name, &how, &Patch::Apply(object)).await.with_context(|| format!("{} {name}", types.kind))?;
    Ok(())
}
