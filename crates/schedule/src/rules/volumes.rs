//! `VolumeRestrictions`, `NodeVolumeLimits`, `VolumeBinding`, `VolumeZone`: the pod's volumes must be there, and be
//! reachable from the node.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kinds::nodefit::term_fits;

use super::{Fit, Happening, Prefilter, Rule, Unfit};
use crate::affinity::selector;
use crate::amounts::units;
use crate::cycle::Cycle;
use crate::event::ClusterEvent;
use crate::node_view::NodeView;
use crate::pod_view::PodView;

pub(super) const RESTRICTIONS: Rule = Rule {
    filter: exclusive_claims,
    hint: |_, happening| matches!(happening, Happening::PodGone(_) | Happening::Other(ClusterEvent::Claim(_))),
    ..Rule::new("VolumeRestrictions", 0)
};

pub(super) const LIMITS: Rule = Rule {
    filter: attach_limits,
    hint: |_, happening| {
        matches!(
            happening,
            Happening::NodeAdded(_)
                | Happening::PodGone(_)
                | Happening::Other(ClusterEvent::CsiNode(_) | ClusterEvent::Claim(_))
        )
    },
    ..Rule::new("NodeVolumeLimits", 0)
};

pub(super) const BINDING: Rule = Rule {
    prefilter: claims_are_there,
    filter: volumes_are_reachable,
    hint: |_, happening| match happening {
        Happening::NodeAdded(_) => true,
        Happening::NodeChanged { before, now } => before.labels != now.labels,
        Happening::Other(event) => is_storage(event),
        _ => false,
    },
    ..Rule::new("VolumeBinding", 0)
};

pub(super) const ZONE: Rule = Rule {
    filter: zone,
    hint: |_, happening| match happening {
        Happening::NodeAdded(_) => true,
        Happening::NodeChanged { before, now } => before.labels != now.labels,
        Happening::Other(event) => is_storage(event),
        _ => false,
    },
    ..Rule::new("VolumeZone", 0)
};

fn is_storage(event: &ClusterEvent) -> bool {
    matches!(
        event,
        ClusterEvent::Claim(_) | ClusterEvent::Volume(_) | ClusterEvent::StorageClass(_) | ClusterEvent::CsiNode(_)
    )
}

/// Names of the claims that a pod uses, and whether the claim is made for the pod alone.
pub(crate) fn claim_names(pod: &PodView) -> Vec<(String, bool)> {
    let volumes = pod.spec().volumes.iter().flatten();
    let names = volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some((claim.claim_name.clone(), false)),
        (None, Some(_)) => Some((format!("{}-{}", pod.key.name, volume.name), true)),
        (None, None) => None,
    });
    names.collect()
}

fn claims<'a>(cycle: &'a Cycle, pod: &PodView) -> Vec<&'a Arc<PersistentVolumeClaim>> {
    let namespace = pod.namespace().to_string();
    let names = claim_names(pod).into_iter();
    names.filter_map(|(name, _)| cycle.snapshot.claims.get(&(namespace.clone(), name))).collect()
}

fn bound_volume(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn waits_for_consumer(cycle: &Cycle, claim: &PersistentVolumeClaim) -> bool {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or("");
    let class = cycle.snapshot.classes.get(class);
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// kubernetes/kubernetes pkg/scheduler/framework/plugins/volumebinding/volume_binding.go, podHasPVCs and PreFilter.
fn claims_are_there(cycle: &Cycle) -> Prefilter {
    for (name, ephemeral) in claim_names(cycle.pod) {
        let key = (cycle.pod.namespace().to_string(), name.clone());
        let Some(claim) = cycle.snapshot.claims.get(&key) else {
            return Err(match ephemeral {
                true => {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\"")
                }
                false => format!("persistentvolumeclaim \"{name}\" not found"),
            });
        };
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Lost") {
            let volume = bound_volume(claim).unwrap_or("");
            return Err(format!(
                "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
            ));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
    }
    let immediate =
        |claim: &&Arc<PersistentVolumeClaim>| bound_volume(claim).is_none() && !waits_for_consumer(cycle, claim);
    match claims(cycle, cycle.pod).iter().any(immediate) {
        true => Err("pod has unbound immediate PersistentVolumeClaims".to_string()),
        false => Ok(None),
    }
}

fn reachable(volume: &PersistentVolume, node: &NodeView) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else { return true };
    let Some(object) = &node.node else { return false };
    required.node_selector_terms.iter().any(|term| term_fits(term, object))
}

/// A free volume that the claim could take: class, modes, size, selector.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offer), Some(wish)) = (&volume.spec, &claim.spec) else { return false };
    let taken = offer.claim_ref.as_ref().is_some_and(|by| {
        by.name != claim.metadata.name
            || by.namespace != claim.metadata.namespace
            || by.uid.as_ref().is_some_and(|uid| Some(uid) != claim.metadata.uid.as_ref())
    });
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    let modes = offer.access_modes.as_deref().unwrap_or_default();
    let has_modes = wish.access_modes.iter().flatten().all(|mode| modes.contains(mode));
    let size = offer.capacity.as_ref().and_then(|capacity| capacity.get("storage")).map_or(0, units);
    let requests = wish.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let wanted = requests.and_then(|requests| requests.get("storage")).map_or(0, units);
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    let selected = wish.selector.as_ref().is_none_or(|wanted| selector(Some(wanted)).matches(&labels));
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_string());
    !taken
        && volume.metadata.deletion_timestamp.is_none()
        && class(&offer.storage_class_name) == class(&wish.storage_class_name)
        && mode(&offer.volume_mode) == mode(&wish.volume_mode)
        && has_modes
        && size >= wanted
        && selected
}

fn volumes_are_reachable(cycle: &Cycle, node: &NodeView) -> Fit {
    let mut reasons = BTreeSet::new();
    let mut chosen: BTreeSet<&str> = BTreeSet::new();
    for claim in claims(cycle, cycle.pod) {
        if let Some(name) = bound_volume(claim) {
            match cycle.snapshot.volumes.get(name) {
                None => {
                    reasons.insert("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
                }
                Some(volume) if !reachable(volume, node) => {
                    reasons.insert("node(s) didn't match PersistentVolume's node affinity");
                }
                Some(_) => {}
            }
            continue;
        }
        let free =
            cycle.snapshot.volumes.iter().find(|(name, volume)| {
                !chosen.contains(name.as_str()) && suits(volume, claim) && reachable(volume, node)
            });
        match free {
            Some((name, _)) => {
                chosen.insert(name);
            }
            None if can_provision(cycle, claim, node) => {}
            None => {
                reasons.insert("node(s) didn't find available persistent volumes to bind");
            }
        }
    }
    match reasons.is_empty() {
        true => Ok(()),
        false => Err(Unfit { reasons: reasons.into_iter().map(str::to_string).collect(), resolvable: false }),
    }
}

/// The class makes volumes, and may make one here (its allowed topologies).
fn can_provision(cycle: &Cycle, claim: &PersistentVolumeClaim, node: &NodeView) -> bool {
    let name = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or("");
    let Some(class) = cycle.snapshot.classes.get(name) else { return false };
    if class.provisioner.is_empty() || class.provisioner == "kubernetes.io/no-provisioner" {
        return false;
    }
    let allowed = class.allowed_topologies.as_deref().unwrap_or_default();
    let holds = |key: &str, values: &[String]| node.labels.get(key).is_some_and(|value| values.contains(value));
    allowed.is_empty()
        || allowed.iter().any(|term| {
            let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
            expressions.iter().all(|expression| holds(&expression.key, &expression.values))
        })
}

const ZONE_LABELS: [&str; 4] = [
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
];

/// A volume with zone labels is only for nodes of these zones (several are joined by `__`).
fn zone(cycle: &Cycle, node: &NodeView) -> Fit {
    if !ZONE_LABELS.iter().any(|label| node.labels.contains_key(*label)) {
        return Ok(());
    }
    for claim in claims(cycle, cycle.pod) {
        let volume = bound_volume(claim).and_then(|name| cycle.snapshot.volumes.get(name));
        let labels = volume.and_then(|volume| volume.metadata.labels.as_ref()).into_iter().flatten();
        for (label, zones) in labels.filter(|(label, _)| ZONE_LABELS.contains(&label.as_str())) {
            let here = node.labels.get(label).map_or("", String::as_str);
            if !zones.split("__").any(|zone| zone == here) {
                return Err(Unfit::for_good("node(s) had no available volume zone"));
            }
        }
    }
    Ok(())
}

/// `ReadWriteOncePod`: no other pod may use the claim.
fn exclusive_claims(cycle: &Cycle, _node: &NodeView) -> Fit {
    let is_exclusive = |claim: &Arc<PersistentVolumeClaim>| {
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
        modes.iter().any(|mode| mode == "ReadWriteOncePod")
    };
    let exclusive: Vec<String> = claims(cycle, cycle.pod)
        .into_iter()
        .filter(|claim| is_exclusive(claim))
        .filter_map(|claim| claim.metadata.name.clone())
        .collect();
    if exclusive.is_empty() {
        return Ok(());
    }
    let uses = |other: &PodView| {
        other.namespace() == cycle.pod.namespace()
            && other.key != cycle.pod.key
            && claim_names(other).iter().any(|(name, _)| exclusive.contains(name))
    };
    match cycle.nodes().any(|node| node.pods.values().any(|other| uses(other))) {
        true => Err(Unfit::resolvable(
            "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
        )),
        false => Ok(()),
    }
}

/// No more volumes of a CSI driver than it says the node can attach.
fn attach_limits(cycle: &Cycle, node: &NodeView) -> Fit {
    let Some(csi_node) = cycle.snapshot.csi_nodes.get(&node.name) else { return Ok(()) };
    let attached_by = |pod: &PodView| -> Vec<(String, String)> {
        let volumes =
            claims(cycle, pod).into_iter().filter_map(|claim| cycle.snapshot.volumes.get(bound_volume(claim)?));
        let by_csi = volumes.filter_map(|volume| volume.spec.as_ref()?.csi.as_ref());
        by_csi.map(|csi| (csi.driver.clone(), csi.volume_handle.clone())).collect()
    };
    let wanted: BTreeSet<_> = attached_by(cycle.pod).into_iter().collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut all: BTreeSet<_> = node.pods.values().flat_map(|pod| attached_by(pod)).collect();
    let before = all.len();
    all.extend(wanted);
    for driver in csi_node.spec.drivers.iter().filter(|_| all.len() > before) {
        let Some(most) = driver.allocatable.as_ref().and_then(|it| it.count) else { continue };
        let count = all.iter().filter(|(name, _)| *name == driver.name).count();
        if i64::try_from(count).unwrap_or(i64::MAX) > i64::from(most) {
            return Err(Unfit::resolvable("node(s) exceed max volume count"));
        }
    }
    Ok(())
}
