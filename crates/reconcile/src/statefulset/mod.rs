//! `StatefulSet`: pods with names, places and volumes of their own, made and replaced in order.
//!
//! kubernetes/kubernetes pkg/controller/statefulset: decides everything here. `pod.rs` makes a pod of an ordinal
//! and its claims, `order.rs` decides what may happen next.

mod order;
mod pod;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};

use crate::cache::{Cache, Change, Key, Of};
use crate::claim::claim;
use crate::controller::{Controller, Cx, Failure, controlling, own};
use crate::history::{self, HASH};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::podstate;
use crate::selector;

/// Where a StatefulSet's revisions carry their hash.
const REVISION_HASH: &str = "controller.kubernetes.io/hash";

pub static STATEFULSET: Controller = Controller {
    name: "statefulset-controller",
    account: "statefulset-controller",
    watches: &[(Of::StatefulSet, own), (Of::Pod, of_pod), (Of::ControllerRevision, controlling::<StatefulSet>)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(view, cx.now)).unwrap_or_default(),
};

struct View {
    set: Arc<StatefulSet>,
    pods: Vec<Arc<Pod>>,
    revisions: Vec<Arc<ControllerRevision>>,
    claims: BTreeMap<String, Arc<PersistentVolumeClaim>>,
    failure: Option<Failure>,
}

fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    controlling::<StatefulSet>(cache, change, keys);
    if let Some(pod) = change.after::<Pod>()
        && meta::controller_of(&pod.metadata).is_none()
    {
        let sets = cache.stateful_sets.within(meta::namespace(&pod.metadata));
        let takes = |s: &&Arc<StatefulSet>| selector::matches(Some(&s.spec.selector), &pod.metadata.labels);
        keys.extend(sets.iter().filter(takes).map(|s| Key::of(&s.metadata)));
    }
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let set = cx.cache.stateful_sets.at(key)?;
    let uid = meta::uid(&set.metadata).to_string();
    let mut pods = cx.cache.pods.controlled_by(&uid);
    let orphans = cx.cache.pods.within(&key.namespace);
    pods.extend(orphans.into_iter().filter(|p| meta::controller_of(&p.metadata).is_none()));
    let has_claims = set.spec.volume_claim_templates.as_ref().is_some_and(|t| !t.is_empty());
    let claims = if has_claims { cx.cache.claims.within(&key.namespace) } else { Vec::new() };
    let claims = claims.into_iter().map(|c| (meta::name(&c.metadata).to_string(), c)).collect();
    Some(View { set, pods, revisions: history::gather(cx, key, &uid), claims, failure: cx.failure.cloned() })
}

/// A revision: its name, by which pods carry it, and its template.
struct Revision {
    name: String,
    template: PodTemplateSpec,
}

impl Revision {
    fn of(revision: &ControllerRevision) -> Revision {
        Revision { name: meta::name(&revision.metadata).to_string(), template: history::template_of(revision) }
    }
}

/// One ordinal: the pod that is there, or the one that should be.
struct Place {
    ordinal: i32,
    there: Option<Arc<Pod>>,
    wanted: Pod,
}

struct Draft<'a> {
    set: &'a StatefulSet,
    claims: &'a BTreeMap<String, Arc<PersistentVolumeClaim>>,
    current: Revision,
    update: Revision,
    /// The ordinals that shall be, in order.
    places: Vec<Place>,
    /// Pods beyond them, the highest ordinal first.
    condemned: Vec<(i32, Arc<Pod>)>,
    now: Timestamp,
    plan: Plan,
}

fn plan(view: View, now: Timestamp) -> Plan {
    let set = view.set.as_ref();
    let mut plan = Plan::default();
    let selects = |labels: &selector::Labels| selector::matches(Some(&set.spec.selector), labels);
    let revisions = claim(set, view.revisions, |r| selects(&r.metadata.labels), &mut plan.actions);
    let is_member = |p: &Pod| selects(&p.metadata.labels) && pod::ordinal(set, p).is_some();
    let pods = claim(set, view.pods, is_member, &mut plan.actions);
    if !plan.actions.is_empty() {
        return plan;
    }
    let collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
    let all = revisions.clone();
    let history =
        history::revise(set, &set.spec.template, revisions, Some(collisions), REVISION_HASH, view.failure.as_ref());
    plan.actions.extend(history.actions.iter().cloned());
    if history.collision {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(collisions + 1);
        plan.status = Some(Action::update_status(&StatefulSet { status: Some(status), ..set.clone() }));
        return plan;
    }
    let Some(newest) = history.current.clone() else { return plan };
    let named = set.status.as_ref().and_then(|s| s.current_revision.clone()).unwrap_or_default();
    let current = all.iter().find(|r| r.metadata.name.as_deref() == Some(&named)).unwrap_or(&newest);
    let live: Vec<String> = pods.iter().filter_map(|p| meta::label(&p.metadata, HASH)).map(str::to_string).collect();
    let keep = [meta::name(&current.metadata).to_string(), meta::name(&newest.metadata).to_string()];
    let limit = set.spec.revision_history_limit.unwrap_or(10);
    let trimmed = history::truncate(&history.old, limit, |r| {
        let name = meta::name(&r.metadata).to_string();
        live.contains(&name) || keep.contains(&name)
    });
    let draft = Draft {
        set,
        claims: &view.claims,
        current: Revision::of(current),
        update: Revision::of(&newest),
        places: Vec::new(),
        condemned: Vec::new(),
        now,
        plan,
    };
    let mut plan = draft.decide(pods, collisions);
    plan.actions.extend(trimmed);
    plan
}

impl Draft<'_> {
    fn decide(mut self, pods: Vec<Arc<Pod>>, collisions: i32) -> Plan {
        let start = self.start();
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let mut there: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in &pods {
            if let Some(ordinal) = pod::ordinal(self.set, pod) {
                there.insert(ordinal, pod.clone());
            }
        }
        for ordinal in start..start + wanted {
            let wanted = self.pod(ordinal);
            self.places.push(Place { ordinal, there: there.remove(&ordinal), wanted });
        }
        self.condemned = there.into_iter().rev().collect();
        let mut status = self.count(&pods, collisions);
        if !meta::deleting(&self.set.metadata) {
            self.act(&mut status);
        }
        self.complete(&mut status);
        if Some(&status) != self.set.status.as_ref() {
            let set = StatefulSet { status: Some(status), ..self.set.clone() };
            self.plan.status = Some(Action::update_status(&set));
        }
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        for wait in pods.iter().filter_map(|pod| podstate::available_in(pod, min_ready, self.now)) {
            self.plan.requeue(wait.max(std::time::Duration::from_millis(1)));
        }
        self.plan
    }

    fn start(&self) -> i32 {
        self.set.spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0)
    }

    fn available(&self, pod: &Pod) -> bool {
        podstate::available(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    fn running_and_ready(&self, pod: &Pod) -> bool {
        podstate::phase(pod) == "Running" && podstate::ready(pod)
    }

    fn count(&self, pods: &[Arc<Pod>], collisions: i32) -> StatefulSetStatus {
        let some = |count: usize| (count != 0).then_some(count as i32);
        let count = |test: &dyn Fn(&Pod) -> bool| pods.iter().filter(|p| test(p)).count();
        let carries = |pod: &Pod, revision: &Revision| {
            !meta::deleting(&pod.metadata) && meta::label(&pod.metadata, HASH) == Some(&revision.name)
        };
        StatefulSetStatus {
            replicas: pods.len() as i32,
            ready_replicas: some(count(&|p| self.running_and_ready(p))),
            available_replicas: Some(count(&|p| self.running_and_ready(p) && self.available(p)) as i32),
            current_replicas: some(count(&|p| carries(p, &self.current))),
            updated_replicas: some(count(&|p| carries(p, &self.update))),
            current_revision: Some(self.current.name.clone()),
            update_revision: Some(self.update.name.clone()),
            observed_generation: Some(meta::generation(&self.set.metadata)),
            collision_count: Some(collisions),
            conditions: self.set.status.as_ref().and_then(|s| s.conditions.clone()),
        }
    }

    /// When all pods carry the new revision it becomes the current one.
    fn complete(&self, status: &mut StatefulSetStatus) {
        let wanted = self.set.spec.replicas.unwrap_or(1);
        let rolls = self.rolls();
        let all = |count: Option<i32>| count.unwrap_or(0) == wanted;
        if rolls && all(status.updated_replicas) && all(status.ready_replicas) && status.replicas == wanted {
            status.current_replicas = status.updated_replicas;
            status.current_revision = status.update_revision.clone();
        }
    }

    fn rolls(&self) -> bool {
        let strategy = self.set.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref());
        strategy.is_none_or(|s| s == "RollingUpdate")
    }

    fn delete(&mut self, pod: &Pod) {
        let set = meta::name(&self.set.metadata);
        self.plan.actions.push(Action::delete(pod).noted(crate::plan::Note {
            about: crate::plan::reference(self.set),
            done: ("SuccessfulDelete", format!("delete Pod {{name}} in StatefulSet {set} successful").into()),
            failed: (
                "FailedDelete",
                format!("delete Pod {{name}} in StatefulSet {set} failed error: {{error}}").into(),
            ),
        }));
    }

    fn tell(&mut self, reason: &str, message: String) {
        self.plan.events.push(Event::warning(self.set, reason, message));
    }
}
