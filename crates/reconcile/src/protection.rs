//! Claims and volumes in use are not removed: a finalizer holds them until nobody uses them.
//!
//! kubernetes/kubernetes pkg/controller/volume/{pvcprotection,pvprotection}: decides who counts as a user.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use crate::cache::{Cache, Change, Kept, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::podstate;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

pub static PVCPROTECTION: Controller = Controller {
    name: "pvc-protection-controller",
    account: "pvc-protection-controller",
    watches: &[(Of::PersistentVolumeClaim, own), (Of::Pod, of_pod)],
    workers: 2,
    sync: |cx, key| {
        gather_claim(cx, key).map(|view| protect(view.claim.as_ref(), CLAIM, view.used)).unwrap_or_default()
    },
};

pub static PVPROTECTION: Controller = Controller {
    name: "pv-protection-controller",
    account: "pv-protection-controller",
    watches: &[(Of::PersistentVolume, own)],
    workers: 2,
    sync: |cx, key| gather_volume(cx, key).map(|v| protect(v.as_ref(), VOLUME, bound(&v))).unwrap_or_default(),
};

struct ClaimView {
    claim: Arc<PersistentVolumeClaim>,
    used: bool,
}

/// The claims a pod uses, its ephemeral ones among them.
pub(crate) fn claims_of(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref());
    volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{}-{}", meta::name(&pod.metadata), volume.name)),
            (None, None) => None,
        })
        .collect()
}

/// A pod's end frees its claims.
fn of_pod(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(pod) = change.both::<Pod>().last() else { return };
    if change.new.is_none() || podstate::finished(pod) {
        let namespace = meta::namespace(&pod.metadata);
        keys.extend(claims_of(pod).into_iter().map(|name| Key::new(namespace, name)));
    }
}

fn gather_claim(cx: &Cx<'_>, key: &Key) -> Option<ClaimView> {
    let claim = cx.cache.claims.at(key)?;
    let uses =
        |p: &Arc<Pod>| !podstate::finished(p) && !podstate::node_name(p).is_empty() && claims_of(p).contains(&key.name);
    let used = meta::deleting(&claim.metadata) && cx.cache.pods.within(&key.namespace).iter().any(uses);
    Some(ClaimView { claim, used })
}

fn gather_volume(cx: &Cx<'_>, key: &Key) -> Option<Arc<PersistentVolume>> {
    cx.cache.volumes.at(key)
}

fn bound(volume: &PersistentVolume) -> bool {
    volume.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Bound"))
}

fn protect<K: Kept>(object: &K, finalizer: &str, used: bool) -> Plan {
    let had = meta::has_finalizer(object.metadata(), finalizer);
    let mut finalizers = object.metadata().finalizers.clone().unwrap_or_default();
    match (meta::deleting(object.metadata()), had) {
        (false, false) => finalizers.push(finalizer.to_string()),
        (true, true) if !used => finalizers.retain(|f| f != finalizer),
        _ => return Plan::default(),
    }
    let action = Action::changed(object, |o| o.metadata_mut().finalizers = Some(finalizers));
    Plan { actions: vec![action], ..Plan::default() }
}
