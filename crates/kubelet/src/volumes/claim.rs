//! Claims that are bound to a volume on this node: `hostPath` and `local`.

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod, Volume as Spec};
use kube::Api;

use super::{Volume, fs_group, host_path, ownership, ready_mark, set_ready};
use crate::host::{Host, uid};

/// The name of the claim that a volume is.
///
/// kubernetes/kubernetes component-helpers storage/ephemeral: an ephemeral one is named after pod and volume.
fn claim_name(pod: &Pod, volume: &Spec) -> Option<String> {
    let own = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    own.or_else(|| volume.ephemeral.as_ref().map(|_| format!("{pod}-{}", volume.name)))
}

/// The directory behind a claim.
pub(super) async fn set_up(host: &Arc<Host>, pod: &Arc<Pod>, volume: &Spec) -> Result<Volume, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = claim_name(pod, volume).unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(host.client.clone(), namespace);
    let claim = claims.get(&name).await.map_err(|error| crate::api_error(&error))?;
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let target = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|_| bound);
    let target = target.ok_or_else(|| format!("PVC {namespace}/{name} is not bound"))?;
    let volumes: Api<PersistentVolume> = Api::all(host.client.clone());
    let spec = volumes.get(&target).await.map_err(|error| crate::api_error(&error))?.spec.unwrap_or_default();
    let read_only = volume.persistent_volume_claim.as_ref().is_some_and(|source| source.read_only == Some(true));
    let found = match (spec.host_path, spec.local) {
        (Some(source), _) => host_path::check(&source)?,
        (None, Some(local)) => {
            let found = host_path::check(&HostPathVolumeSource { path: local.path, type_: Some("Directory".into()) })?;
            if let (Volume::Directory(dir), false) = (&found, read_only) {
                let (host, pod, volume, dir) = (Arc::clone(host), Arc::clone(pod), volume.clone(), dir.clone());
                let given = tokio::task::spawn_blocking(move || give(&host, &pod, &volume, &dir)).await;
                given.map_err(|error| error.to_string())??;
            }
            found
        }
        (None, None) => return Err(format!("no volume plugin matched PersistentVolume {target}")),
    };
    Ok(match found {
        Volume::Directory(dir) if read_only => Volume::ReadOnly(dir),
        other => other,
    })
}

/// Gives a local volume to the pod's group, by its `fsGroupChangePolicy`; not again while it is in use, here or by
/// another pod.
///
/// kubernetes/kubernetes pkg/volume/local/local.go (SetUpAt).
fn give(host: &Host, pod: &Pod, volume: &Spec, dir: &Path) -> Result<(), String> {
    let Some(group) = fs_group(pod) else { return Ok(()) };
    let mark = ready_mark(host, pod, "kubernetes.io~local-volume", &volume.name);
    if mark.exists() || is_used(host, pod, volume) {
        return Ok(());
    }
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
    let access = ownership::Access::ReadWrite;
    if policy != Some("OnRootMismatch") || !ownership::is_given(dir, group, access) {
        ownership::give(dir, group, access).map_err(|error| error.to_string())?;
    }
    set_ready(&mark)
}

/// Whether another pod of this node has the same claim.
fn is_used(host: &Host, pod: &Pod, volume: &Spec) -> bool {
    let claim = claim_name(pod, volume);
    let has_it = |other: &Pod| {
        let volumes = other.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        other.metadata.namespace == pod.metadata.namespace
            && volumes.into_iter().any(|volume| claim_name(other, volume).is_some_and(|name| Some(name) == claim))
    };
    host.pods().values().any(|known| !known.is_over() && uid(&known.pod) != uid(pod) && has_it(&known.pod))
}
