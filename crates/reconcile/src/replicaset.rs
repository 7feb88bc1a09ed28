//! `ReplicaSet` and `ReplicationController`: so many pods of one template, whoever made them.
//!
//! kubernetes/kubernetes pkg/controller/replicaset: decides which pods count, which go first, and the conditions.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Pod, PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};

use crate::cache::{Cache, Change, Kept, Key, Of};
use crate::claim::claim;
use crate::controller::{Controller, Cx, Failure, controlling, own};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::podstate;
use crate::selector;
use crate::template::{create_pod, delete_pod, pod_of};

/// The most pods created or deleted in one go.
const BURST: usize = 500;

pub static REPLICASET: Controller = Controller {
    name: "replicaset-controller",
    account: "replicaset-controller",
    watches: &[(Of::ReplicaSet, own), (Of::Pod, of_pod::<ReplicaSet>)],
    workers: 5,
    sync: |cx, key| gather::<ReplicaSet>(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

pub static REPLICATIONCONTROLLER: Controller = Controller {
    name: "replication-controller",
    account: "replication-controller",
    watches: &[(Of::ReplicationController, own), (Of::Pod, of_pod::<ReplicationController>)],
    workers: 5,
    sync: |cx, key| gather::<ReplicationController>(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

/// What the two kinds have in common.
trait Replicated: Kept {
    const COUNTS_TERMINATING: bool;
    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    fn template(&self) -> PodTemplateSpec;
    fn selects(&self, pod: &Pod) -> bool;
    fn status(&self) -> ReplicaSetStatus;
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Replicated for ReplicaSet {
    const COUNTS_TERMINATING: bool = true;
    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }
    fn template(&self) -> PodTemplateSpec {
        self.spec.template.clone().unwrap_or_default()
    }
    fn selects(&self, pod: &Pod) -> bool {
        selector::matches(Some(&self.spec.selector), &pod.metadata.labels)
    }
    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        ReplicaSet { status: Some(status), ..self.clone() }
    }
}

impl Replicated for ReplicationController {
    const COUNTS_TERMINATING: bool = false;
    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or(0)
    }
    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|s| s.template.clone()).unwrap_or_default()
    }
    fn selects(&self, pod: &Pod) -> bool {
        let wanted = self.spec.as_ref().and_then(|s| s.selector.clone());
        wanted.as_ref().is_some_and(|w| !w.is_empty()) && selector::contains(&wanted, &pod.metadata.labels)
    }
    fn status(&self) -> ReplicaSetStatus {
        let had = self.status.clone().unwrap_or_default();
        let conditions = had.conditions.map(|all| {
            all.into_iter()
                .map(|c| ReplicaSetCondition {
                    last_transition_time: c.last_transition_time,
                    message: c.message,
                    reason: c.reason,
                    status: Some(c.status),
                    type_: Some(c.type_),
                })
                .collect()
        });
        ReplicaSetStatus {
            available_replicas: had.available_replicas,
            conditions,
            fully_labeled_replicas: had.fully_labeled_replicas,
            observed_generation: had.observed_generation,
            ready_replicas: had.ready_replicas,
            replicas: had.replicas,
            terminating_replicas: None,
        }
    }
    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let conditions = status.conditions.map(|all| {
            all.into_iter()
                .map(|c| ReplicationControllerCondition {
                    last_transition_time: c.last_transition_time,
                    message: c.message,
                    reason: c.reason,
                    status: c.status.unwrap_or_default(),
                    type_: c.type_.unwrap_or_default(),
                })
                .collect()
        });
        let status = ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions,
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        };
        ReplicationController { status: Some(status), ..self.clone() }
    }
}

/// A pod concerns its controller; an orphan concerns every set that would take it.
fn of_pod<S: Replicated>(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    controlling::<S>(cache, change, keys);
    if let Some(pod) = change.after::<Pod>()
        && meta::controller_of(&pod.metadata).is_none()
    {
        let sets = S::store(cache).within(meta::namespace(&pod.metadata));
        keys.extend(sets.iter().filter(|set| set.selects(pod)).map(|set| Key::of(set.metadata())));
    }
}

struct View<S> {
    set: Arc<S>,
    /// Pods of the set and orphans of its namespace.
    pods: Vec<Arc<Pod>>,
    /// Pods of sets with the same controller, which share nodes with ours.
    related: Vec<Arc<Pod>>,
    failure: Option<Failure>,
}

fn gather<S: Replicated>(cx: &Cx<'_>, key: &Key) -> Option<View<S>> {
    let set = S::store(cx.cache).at(key)?;
    let uid = meta::uid(set.metadata());
    let mut pods = cx.cache.pods.controlled_by(uid);
    let orphans = cx.cache.pods.within(&key.namespace);
    pods.extend(orphans.into_iter().filter(|p| meta::controller_of(&p.metadata).is_none()));
    let related = match meta::controller_of(set.metadata()) {
        None => pods.clone(),
        Some(owner) => {
            let siblings = S::store(cx.cache).controlled_by(&owner.uid);
            siblings.iter().flat_map(|s| cx.cache.pods.controlled_by(meta::uid(s.metadata()))).collect()
        }
    };
    Some(View { set, pods, related, failure: cx.failure.cloned() })
}

fn plan<S: Replicated>(view: &View<S>, now: Timestamp) -> Plan {
    let set = view.set.as_ref();
    let mut plan = Plan::default();
    let active = view.pods.iter().filter(|p| podstate::active(p)).cloned().collect();
    let active = claim(set, active, |pod| set.selects(pod), &mut plan.actions);
    let terminating = view.pods.iter().filter(|pod| {
        meta::deleting(&pod.metadata)
            && !podstate::finished(pod)
            && meta::controlled_by(&pod.metadata, meta::uid(set.metadata()))
            && set.selects(pod)
    });
    let status = status(set, &active, terminating.count(), view.failure.as_ref(), now);
    if !meta::deleting(set.metadata()) {
        manage(set, &active, &view.related, now, &mut plan);
    }
    if status != set.status() {
        plan.status = Some(Action::update_status(&set.with_status(status)));
    }
    let waits = active.iter().filter_map(|pod| podstate::available_in(pod, set.min_ready_seconds(), now));
    plan.requeue_after = waits.min().map(|wait| wait.max(Duration::from_millis(1)));
    plan
}

fn manage<S: Replicated>(set: &S, active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp, plan: &mut Plan) {
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    if active.len() < wanted {
        let pod = pod_of(set, &set.template());
        let missing = (wanted - active.len()).min(BURST);
        plan.actions.extend((0..missing).map(|_| create_pod(set, &pod)));
    } else if active.len() > wanted {
        let excess = (active.len() - wanted).min(BURST);
        let first = first_to_go(active, related, now);
        plan.actions.extend(first.iter().take(excess).map(|pod| delete_pod(set, pod)));
    }
}

/// Pods in the order in which they are given up.
fn first_to_go(active: &[Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) -> Vec<Arc<Pod>> {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|p| podstate::active(p)) {
        *on_node.entry(podstate::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| on_node.get(podstate::node_name(pod)).copied().unwrap_or(0);
    let mut pods = active.to_vec();
    pods.sort_by(|a, b| compare(a, b, rank(a), rank(b), now));
    pods
}

fn compare(a: &Pod, b: &Pod, rank_a: usize, rank_b: usize, now: Timestamp) -> Ordering {
    let unassigned = |p: &Pod| podstate::node_name(p).is_empty();
    let phase = |p: &Pod| match podstate::phase(p) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    unassigned(b)
        .cmp(&unassigned(a))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| podstate::ready(a).cmp(&podstate::ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| match (podstate::ready_since(a), podstate::ready_since(b)) {
            (Some(x), Some(y)) if x != y => younger_first(x, y, a, b, now),
            _ => Ordering::Equal,
        })
        .then_with(|| podstate::restarts_max(b).cmp(&podstate::restarts_max(a)))
        .then_with(|| {
            let (x, y) = (meta::created(&a.metadata), meta::created(&b.metadata));
            if x == y { Ordering::Equal } else { younger_first(x, y, a, b, now) }
        })
}

/// Ages are compared by their power of two, so that pods of about the same age fall at random (by uid).
fn younger_first(x: Timestamp, y: Timestamp, a: &Pod, b: &Pod, now: Timestamp) -> Ordering {
    let magnitude = |t: Timestamp| {
        let nanos = now.duration_since(t).as_nanos();
        if nanos <= 0 { -1 } else { nanos.ilog2() as i64 }
    };
    magnitude(x).cmp(&magnitude(y)).then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

fn deletion_cost(pod: &Pod) -> i32 {
    let cost = meta::annotation(&pod.metadata, "controller.kubernetes.io/pod-deletion-cost");
    cost.and_then(|c| c.parse().ok()).unwrap_or(0)
}

fn status<S: Replicated>(
    set: &S,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let labels = set.template().metadata.and_then(|m| m.labels);
    let count = |test: &dyn Fn(&Pod) -> bool| active.iter().filter(|p| test(p)).count() as i32;
    let labeled = count(&|p| selector::contains(&labels, &p.metadata.labels));
    let ready = count(&|p| podstate::ready(p));
    let available = count(&|p| podstate::available(p, set.min_ready_seconds(), now));
    let had = set.status();
    let mut conditions: Vec<ReplicaSetCondition> = had.conditions.clone().unwrap_or_default();
    let failed = conditions.iter().any(|c| c.type_.as_deref() == Some("ReplicaFailure"));
    match failure {
        Some(failure) if !failed => {
            let too_few = (active.len() as i32) < set.replicas();
            conditions.push(ReplicaSetCondition {
                type_: Some("ReplicaFailure".into()),
                status: Some("True".into()),
                reason: Some(if too_few { "FailedCreate" } else { "FailedDelete" }.into()),
                message: Some(failure.message.clone()),
                last_transition_time: Some(meta::time(now)),
            });
        }
        None if failed => conditions.retain(|c| c.type_.as_deref() != Some("ReplicaFailure")),
        _ => {}
    }
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: some(labeled),
        ready_replicas: some(ready),
        available_replicas: some(available),
        terminating_replicas: S::COUNTS_TERMINATING.then_some(terminating as i32),
        observed_generation: Some(meta::generation(set.metadata())),
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

/// A zero count is absent on the wire.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}
