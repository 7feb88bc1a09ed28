//! Binding claims to volumes: a claim gets the smallest volume that fits, and each says so of the other.
//!
//! kubernetes/kubernetes pkg/controller/volume/persistentvolume: decides what fits, the order of writes and the
//! events. Volumes are provisioned by others; this controller says that it waits for them.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use machinery::quantity::Quantity;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::podstate;
use crate::protection::claims_of;
use crate::selector;

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

pub static CLAIMBINDER: Controller = Controller {
    name: "persistentvolume-controller",
    account: "persistent-volume-binder",
    watches: &[(Of::PersistentVolumeClaim, own), (Of::PersistentVolume, of_volume), (Of::Pod, of_pod)],
    workers: 1,
    sync: |cx, key| gather_claim(cx, key).map(|view| plan_claim(&view)).unwrap_or_default(),
};

pub static VOLUMEBINDER: Controller = Controller {
    name: "persistentvolume-phase-controller",
    account: "persistent-volume-binder",
    watches: &[(Of::PersistentVolume, own), (Of::PersistentVolumeClaim, of_claim)],
    workers: 1,
    sync: |cx, key| gather_volume(cx, key).map(|view| plan_volume(&view, cx.now)).unwrap_or_default(),
};

struct ClaimView {
    claim: Arc<PersistentVolumeClaim>,
    volumes: Vec<Arc<PersistentVolume>>,
    class: Option<Arc<StorageClass>>,
    /// A pod that uses the claim has been given a node.
    consumed: bool,
}

struct VolumeView {
    volume: Arc<PersistentVolume>,
    /// The claim the volume names, if that very claim is there.
    claim: Option<Arc<PersistentVolumeClaim>>,
}

/// A volume concerns the claim it names; a free one every claim that waits.
fn of_volume(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    for volume in change.both::<PersistentVolume>() {
        match volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()) {
            Some(claim) => {
                keys.push(Key::new(claim.namespace.clone().unwrap_or_default(), claim.name.clone().unwrap_or_default()))
            }
            None => {
                let claims = cache.claims.all();
                keys.extend(claims.iter().filter(|c| volume_name(c).is_none()).map(|c| Key::of(&c.metadata)));
            }
        }
    }
}

/// A pod that gets its node lets a claim bind that waited for its first consumer.
fn of_pod(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    use k8s_openapi::api::core::v1::Pod;
    let Some(pod) = change.after::<Pod>() else { return };
    let before = change.before::<Pod>().is_some_and(|old| !podstate::node_name(old).is_empty());
    if !before {
        let namespace = meta::namespace(&pod.metadata);
        keys.extend(claims_of(pod).into_iter().map(|name| Key::new(namespace, name)));
    }
}

fn of_claim(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    for claim in change.both::<PersistentVolumeClaim>() {
        keys.extend(volume_name(claim).map(|name| Key::new("", name)));
        let uid = &claim.metadata.uid;
        let naming = cache.volumes.all().into_iter().filter(|v| claim_uid(v) == *uid && uid.is_some());
        keys.extend(naming.map(|v| Key::of(&v.metadata)));
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|n| !n.is_empty())
}

fn claim_uid(volume: &PersistentVolume) -> Option<String> {
    volume.spec.as_ref()?.claim_ref.as_ref()?.uid.clone()
}

fn gather_claim(cx: &Cx<'_>, key: &Key) -> Option<ClaimView> {
    let claim = cx.cache.claims.at(key)?;
    let class = claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or("");
    let pods = cx.cache.pods.within(&key.namespace);
    let consumed = pods.iter().any(|p| !podstate::node_name(p).is_empty() && claims_of(p).contains(&key.name));
    Some(ClaimView { class: cx.cache.storage_classes.get("", class), volumes: cx.cache.volumes.all(), claim, consumed })
}

fn gather_volume(cx: &Cx<'_>, key: &Key) -> Option<VolumeView> {
    let volume = cx.cache.volumes.at(key)?;
    let named = volume.spec.as_ref().and_then(|s| s.claim_ref.clone());
    let claim = named.and_then(|named| {
        let claim = cx.cache.claims.get(named.namespace.as_deref()?, named.name.as_deref()?)?;
        (named.uid.is_none() || named.uid == claim.metadata.uid).then_some(claim)
    });
    Some(VolumeView { volume, claim })
}

fn amount(of: Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity>) -> Quantity {
    of.and_then(|q| Quantity::parse(&q.0).ok()).unwrap_or(Quantity::ZERO)
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    amount(capacity.and_then(|c| c.get("storage")))
}

fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(wants)) = (volume.spec.as_ref(), claim.spec.as_ref()) else { return false };
    let requests = wants.resources.as_ref().and_then(|r| r.requests.as_ref());
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    let mode = |name: &Option<String>| name.clone().unwrap_or_else(|| "Filesystem".into());
    let modes = has.access_modes.as_deref().unwrap_or(&[]);
    class(&has.storage_class_name) == class(&wants.storage_class_name)
        && mode(&has.volume_mode) == mode(&wants.volume_mode)
        && wants.access_modes.iter().flatten().all(|m| modes.contains(m))
        && capacity(volume) >= amount(requests.and_then(|r| r.get("storage")))
        && (wants.selector.is_none() || selector::matches(wants.selector.as_ref(), &volume.metadata.labels))
        && !meta::deleting(&volume.metadata)
}

/// The volume kept for this claim, or the smallest free one that fits.
fn choose(view: &ClaimView) -> Option<&Arc<PersistentVolume>> {
    let claim = view.claim.as_ref();
    let kept = view.volumes.iter().find(|v| {
        v.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).is_some_and(|r| {
            r.namespace == claim.metadata.namespace
                && r.name == claim.metadata.name
                && (r.uid.is_none() || r.uid == claim.metadata.uid)
        })
    });
    let free = |v: &&Arc<PersistentVolume>| v.spec.as_ref().is_some_and(|s| s.claim_ref.is_none()) && fits(v, claim);
    kept.or_else(|| view.volumes.iter().filter(free).min_by_key(|v| (capacity(v), v.metadata.name.clone())))
}

fn plan_claim(view: &ClaimView) -> Plan {
    let claim = view.claim.as_ref();
    let mut plan = Plan::default();
    if let Some(name) = volume_name(claim) {
        follow_bound(view, name, &mut plan);
        return plan;
    }
    if meta::deleting(&claim.metadata) {
        return plan;
    }
    let waits = view.class.as_ref().is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let chosen_node = meta::annotation(&claim.metadata, SELECTED_NODE).is_some();
    let found = choose(view);
    if waits && !chosen_node && !view.consumed && found.is_none_or(|v| claim_uid(v).is_none()) {
        let text = "waiting for first consumer to be created before binding";
        plan.events.push(Event::normal(claim, "WaitForFirstConsumer", text));
        return plan;
    }
    let Some(volume) = found else {
        plan.events.push(nothing_fits(view));
        return plan;
    };
    if claim_uid(volume) != claim.metadata.uid {
        plan.actions.push(Action::changed(volume.as_ref(), |v| {
            let spec = v.spec.get_or_insert_default();
            if spec.claim_ref.is_none() {
                v.metadata.annotations.get_or_insert_default().insert(BOUND_BY_CONTROLLER.into(), "yes".into());
            }
            spec.claim_ref = Some(crate::plan::reference(claim));
        }));
    }
    plan.actions.push(Action::changed(claim, |c| {
        let annotations = c.metadata.annotations.get_or_insert_default();
        annotations.insert(BIND_COMPLETED.into(), "yes".into());
        annotations.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
        c.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
    }));
    plan
}

fn nothing_fits(view: &ClaimView) -> Event {
    let claim = view.claim.as_ref();
    match &view.class {
        Some(class) => {
            let text = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and \
                 correctly registered.",
                class.provisioner
            );
            Event::normal(claim, "ExternalProvisioning", text)
        }
        None => match claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).filter(|c| !c.is_empty()) {
            Some(name) => {
                let text = format!("storageclass.storage.k8s.io {name:?} not found");
                Event::warning(claim, "ProvisioningFailed", text)
            }
            None => {
                let text = "no persistent volumes available for this claim and no storage class is set";
                Event::normal(claim, "FailedBinding", text)
            }
        },
    }
}

/// The status of a claim that names its volume.
fn follow_bound(view: &ClaimView, name: &str, plan: &mut Plan) {
    let claim = view.claim.as_ref();
    let volume = view.volumes.iter().find(|v| meta::name(&v.metadata) == name);
    let had = claim.status.clone().unwrap_or_default();
    let status = match volume {
        Some(volume) if claim_uid(volume) == claim.metadata.uid => PersistentVolumeClaimStatus {
            phase: Some("Bound".into()),
            access_modes: volume.spec.as_ref().and_then(|s| s.access_modes.clone()),
            capacity: had.capacity.clone().or_else(|| volume.spec.as_ref().and_then(|s| s.capacity.clone())),
            ..had.clone()
        },
        Some(volume) if volume.spec.as_ref().is_some_and(|s| s.claim_ref.is_none()) => {
            plan.actions.push(Action::changed(volume.as_ref(), |v| {
                v.spec.get_or_insert_default().claim_ref = Some(crate::plan::reference(claim));
            }));
            return;
        }
        None if had.phase.as_deref() == Some("Bound") => {
            let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            plan.events.push(Event::warning(claim, "ClaimLost", text));
            PersistentVolumeClaimStatus { phase: Some("Lost".into()), ..had.clone() }
        }
        _ => return,
    };
    if status != had {
        let updated = PersistentVolumeClaim { status: Some(status), ..claim.clone() };
        plan.status = Some(Action::update_status(&updated));
    }
}

fn plan_volume(view: &VolumeView, now: Timestamp) -> Plan {
    let volume = view.volume.as_ref();
    let named = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    let had = volume.status.clone().unwrap_or_default();
    let mutual = view.claim.as_ref().is_some_and(|c| volume_name(c) == volume.metadata.name.as_deref());
    let phase = match (named, view.claim.is_some(), mutual) {
        (None, _, _) => "Available",
        (Some(_), true, true) => "Bound",
        (Some(_), true, false) => "Available",
        (Some(claim), false, _) if claim.uid.is_none() => "Available",
        (Some(_), false, _) => "Released",
    };
    let mut plan = Plan::default();
    if had.phase.as_deref() != Some(phase) {
        let status = PersistentVolumeStatus {
            phase: Some(phase.into()),
            last_phase_transition_time: Some(meta::time(now)),
            ..had
        };
        plan.status = Some(Action::update_status(&PersistentVolume { status: Some(status), ..volume.clone() }));
    }
    plan
}
