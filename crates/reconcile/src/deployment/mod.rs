//! `Deployment`: a ReplicaSet for each revision of its pod template, exchanged at a bounded rate.
//!
//! kubernetes/kubernetes pkg/controller/deployment: decides everything here. `revision.rs` finds and makes the
//! ReplicaSet of the current template, `rollout.rs` moves pods from old to new, `scale.rs` follows a change of size,
//! `status.rs` counts and reports, `draft.rs` holds what a plan is made of.

mod draft;
mod revision;
mod rollout;
mod scale;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::cache::{Cache, Change, Key, Of};
use crate::claim::claim;
use crate::controller::{Controller, Cx, Failure, controlling, own, resolve};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::podstate;
use crate::selector;

use draft::Draft;

pub static DEPLOYMENT: Controller = Controller {
    name: "deployment-controller",
    account: "deployment-controller",
    watches: &[(Of::Deployment, own), (Of::ReplicaSet, of_set), (Of::Pod, of_pod)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(view, cx.now)).unwrap_or_default(),
};

/// What is known about one Deployment.
struct View {
    deployment: Arc<Deployment>,
    /// Its ReplicaSets and orphans of its namespace.
    sets: Vec<Arc<ReplicaSet>>,
    /// Pods of its ReplicaSets; gathered for `Recreate` alone, which waits for them to end.
    pods: Vec<Arc<Pod>>,
    failure: Option<Failure>,
}

fn of_set(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    controlling::<Deployment>(cache, change, keys);
    if let Some(set) = change.after::<ReplicaSet>()
        && meta::controller_of(&set.metadata).is_none()
    {
        let deployments = cache.deployments.within(meta::namespace(&set.metadata));
        let takes = |d: &&Arc<Deployment>| selector::matches(Some(&d.spec.selector), &set.metadata.labels);
        keys.extend(deployments.iter().filter(takes).map(|d| Key::of(&d.metadata)));
    }
}

/// A pod's end concerns a Deployment that recreates.
fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(pod) = change.both::<Pod>().last() else { return };
    if change.new.is_some() && !podstate::finished(pod) {
        return;
    }
    let namespace = meta::namespace(&pod.metadata);
    let set = meta::controller_of(&pod.metadata).and_then(|owner| resolve::<ReplicaSet>(cache, namespace, owner));
    let Some(set) = set.and_then(|key| cache.replica_sets.at(&key)) else { return };
    let key = meta::controller_of(&set.metadata).and_then(|owner| resolve::<Deployment>(cache, namespace, owner));
    keys.extend(key.filter(|key| cache.deployments.at(key).is_some_and(|d| recreates(&d))));
}

fn recreates(deployment: &Deployment) -> bool {
    deployment.spec.strategy.as_ref().is_some_and(|s| s.type_.as_deref() == Some("Recreate"))
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let deployment = cx.cache.deployments.at(key)?;
    let uid = meta::uid(&deployment.metadata);
    let all = cx.cache.replica_sets.within(&key.namespace);
    let near = |set: &Arc<ReplicaSet>| meta::controller_of(&set.metadata).is_none_or(|owner| owner.uid == uid);
    let sets: Vec<Arc<ReplicaSet>> = all.into_iter().filter(near).collect();
    let mut pods = Vec::new();
    if recreates(&deployment) {
        for set in sets.iter().filter(|set| meta::controlled_by(&set.metadata, uid)) {
            pods.extend(cx.cache.pods.controlled_by(meta::uid(&set.metadata)));
        }
    }
    Some(View { deployment, sets, pods, failure: cx.failure.cloned() })
}

fn plan(view: View, now: Timestamp) -> Plan {
    let deployment = view.deployment.clone();
    if selector::is_empty(Some(&deployment.spec.selector)) {
        return selects_all(&deployment);
    }
    let mut adoptions = Vec::new();
    let selects = |set: &ReplicaSet| selector::matches(Some(&deployment.spec.selector), &set.metadata.labels);
    let mine = claim(deployment.as_ref(), view.sets, selects, &mut adoptions);
    if !adoptions.is_empty() {
        // Owners have changed under every other decision: take them first, and look again.
        return Plan { actions: adoptions, ..Plan::default() };
    }
    let mut draft = Draft::new(deployment, mine, view.failure, now);
    if meta::deleting(&draft.deployment.metadata) {
        draft.find_new();
        return draft.finish(false);
    }
    draft.note_pause();
    let rollback = revision::rollback_to(&draft.deployment);
    if draft.paused() {
        draft.sync_revision(false);
        draft.scale();
        if rollback.is_none() {
            draft.clean_up();
        }
        return draft.finish(false);
    }
    if let Some(revision) = rollback {
        return draft.roll_back(revision);
    }
    if draft.is_scaling_event() {
        draft.sync_revision(false);
        draft.scale();
        return draft.finish(false);
    }
    if recreates(&draft.deployment) {
        draft.recreate(&view.pods);
    } else {
        draft.roll();
    }
    draft.finish(true)
}

fn selects_all(deployment: &Deployment) -> Plan {
    let mut plan = Plan::default();
    let text = "This deployment is selecting all pods. A non-empty selector is required.";
    plan.events.push(Event::warning(deployment, "SelectingAll", text));
    let generation = meta::generation(&deployment.metadata);
    let mut status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation.unwrap_or(0) < generation {
        status.observed_generation = Some(generation);
        plan.status = Some(Action::update_status(&Deployment { status: Some(status), ..deployment.clone() }));
    }
    plan
}
