//! Claims, volumes and their attribute classes are not removed while in use: a finalizer holds them until nobody is
//! their user.
//!
//! kubernetes/kubernetes pkg/controller/volume/{pvcprotection,pvprotection,vacprotection}: decides who counts as a user.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;

use crate::cache::{Cache, Change, Kept, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::podstate;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

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

pub static VACPROTECTION: Controller = Controller {
    name: "volumeattributesclass-protection-controller",
    account: "volumeattributesclass-protection-controller",
    watches: &[
        (Of::VolumeAttributesClass, own),
        (Of::PersistentVolumeClaim, of_class_user),
        (Of::PersistentVolume, of_class_user),
    ],
    workers: 2,
    sync: |cx, key| {
        gather_class(cx, key).map(|view| protect(view.class.as_ref(), CLASS, view.used)).unwrap_or_default()
    },
};

struct ClassView {
    class: Arc<VolumeAttributesClass>,
    used: bool,
}

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

/// The attribute classes a claim has, wants or is on its way to.
fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let wanted = claim.spec.as_ref().and_then(|s| s.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|s| s.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|s| s.modify_volume_status.as_ref());
    let target = target.and_then(|m| m.target_volume_attributes_class_name.as_deref());
    [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref().filter(|name| !name.is_empty())
}

/// What a claim or volume no longer names may be free.
fn of_class_user(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let claims = change.before::<PersistentVolumeClaim>().map(classes_of_claim).unwrap_or_default();
    let volumes = change.before::<PersistentVolume>().and_then(class_of_volume);
    keys.extend(claims.into_iter().chain(volumes).map(|name| Key::new("", name)));
}

fn gather_class(cx: &Cx<'_>, key: &Key) -> Option<ClassView> {
    let class = cx.cache.attributes_classes.at(key)?;
    let used = meta::deleting(&class.metadata)
        && (cx.cache.volumes.all().iter().any(|v| class_of_volume(v) == Some(&key.name))
            || cx.cache.claims.all().iter().any(|c| classes_of_claim(c).contains(&key.name.as_str())));
    Some(ClassView { class, used })
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
