//! Claims that are bound to a volume on this node: `hostPath` and `local`.

use k8s_openapi::api::core::v1::{HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume as Spec};
use kube::Api;

use super::{Volume, host_path};
use crate::host::Host;

/// The directory behind a claim.
pub(super) async fn resolve(host: &Host, pod: &Pod, volume: &Spec) -> Result<Volume, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = match &volume.persistent_volume_claim {
        Some(source) => source.claim_name.clone(),
        // kubernetes/kubernetes component-helpers storage/ephemeral: the claim is named after pod and volume.
        None => format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name),
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(host.client.clone(), namespace);
    let claim = claims.get(&name).await.map_err(|error| crate::api_error(&error))?;
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let target = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|_| bound);
    let target = target.ok_or_else(|| format!("PVC {namespace}/{name} is not bound"))?;
    let volumes: Api<PersistentVolume> = Api::all(host.client.clone());
    let spec = volumes.get(&target).await.map_err(|error| crate::api_error(&error))?.spec.unwrap_or_default();
    match (spec.host_path, spec.local) {
        (Some(source), _) => host_path::check(&source),
        (None, Some(local)) => {
            host_path::check(&HostPathVolumeSource { path: local.path, type_: Some("Directory".into()) })
        }
        (None, None) => Err(format!("no volume plugin matched PersistentVolume {target}")),
    }
}
