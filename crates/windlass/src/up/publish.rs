//! Objects of the cluster's own, written by server-side apply.

use std::time::Duration;

use anyhow::Context;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::Value;

use super::FIELD_MANAGER;

const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Tries until all are there.
pub async fn objects(client: &kube::Client, objects: &[Value]) {
    for object in objects {
        while let Err(error) = apply(client, object).await {
            tracing::warn!(error = format!("{error:#}"), "an object of the cluster's own is not written yet");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
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
