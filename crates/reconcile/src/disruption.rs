//! `PodDisruptionBudget`: how many pods may be disrupted now.
//!
//! kubernetes/kubernetes pkg/controller/disruption: decides what is expected, what is healthy and what is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::fence::{self, Round};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::podstate;
use crate::selector;

/// How long an evicted pod counts as on its way out.
const DELETION_MAX: Duration = Duration::from_secs(120);

pub static DISRUPTION: Controller = Controller {
    name: "controllermanager",
    account: "disruption-controller",
    watches: &[
        (Of::PodDisruptionBudget, own),
        (Of::Pod, of_pod),
        (Of::ReplicaSet, of_owner),
        (Of::Deployment, of_owner),
        (Of::StatefulSet, of_owner),
        (Of::ReplicationController, of_owner),
    ],
    workers: 1,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    budget: Arc<PodDisruptionBudget>,
    pods: Vec<Arc<Pod>>,
    /// The wanted sizes of the pods' owners, together; none if a pod has no owner with a size.
    scale: Option<i32>,
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    selector::matches(budget.spec.as_ref().and_then(|s| s.selector.as_ref()), &pod.metadata.labels)
}

fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(meta) = change.meta() else { return };
    for budget in cache.disruption_budgets.within(meta::namespace(meta)) {
        if change.both::<Pod>().any(|pod| selects(&budget, pod)) {
            keys.push(Key::of(&budget.metadata));
        }
    }
}

/// A change of an owner's size concerns the budgets of its namespace.
fn of_owner(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let generation = |o: Option<&Arc<dyn crate::cache::Object>>| o.map(|o| meta::generation(o.meta()));
    if generation(change.old.as_ref()) == generation(change.new.as_ref()) {
        return;
    }
    let Some(meta) = change.meta() else { return };
    let budgets = cache.disruption_budgets.within(meta::namespace(meta));
    keys.extend(budgets.iter().map(|b| Key::of(&b.metadata)));
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let budget = cx.cache.disruption_budgets.at(key)?;
    let pods: Vec<Arc<Pod>> =
        cx.cache.pods.within(&key.namespace).into_iter().filter(|p| selects(&budget, p)).collect();
    let mut sizes: BTreeMap<String, i32> = BTreeMap::new();
    let mut all = true;
    for pod in &pods {
        match meta::controller_of(&pod.metadata).and_then(|owner| size_of(cx.cache, &key.namespace, owner)) {
            Some((uid, size)) => {
                sizes.insert(uid, size);
            }
            None => all = false,
        }
    }
    Some(View { budget, pods, scale: all.then(|| sizes.values().sum()) })
}

fn size_of(cache: &Cache, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    if meta::refers_to::<ReplicaSet>(owner) {
        let set = cache.replica_sets.get(namespace, &owner.name)?;
        if let Some(above) = meta::controller_of(&set.metadata)
            && meta::refers_to::<Deployment>(above)
        {
            let deployment = cache.deployments.get(namespace, &above.name)?;
            return Some((above.uid.clone(), deployment.spec.replicas.unwrap_or(1)));
        }
        return Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1)));
    }
    if meta::refers_to::<StatefulSet>(owner) {
        let set = cache.stateful_sets.get(namespace, &owner.name)?;
        return Some((owner.uid.clone(), set.spec.replicas.unwrap_or(1)));
    }
    if meta::refers_to::<ReplicationController>(owner) {
        let set = cache.replication_controllers.get(namespace, &owner.name)?;
        return Some((owner.uid.clone(), set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)));
    }
    None
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let budget = view.budget.as_ref();
    let spec = budget.spec.clone().unwrap_or_default();
    if view.pods.is_empty() {
        plan.events.push(Event::normal(budget, "NoPods", "No matching pods found"));
    }
    let count = view.pods.len() as i32;
    let scale = view.scale.unwrap_or(0);
    let (expected, desired) = match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, (scale - fence::scaled(Some(most), scale, Round::Up)).max(0)),
        (None, Some(IntOrString::Int(least))) => (count, *least),
        (None, Some(least)) => (scale, fence::scaled(Some(least), scale, Round::Up)),
        (None, None) => (0, 0),
    };
    let disrupted = disrupted(view, &mut plan, now);
    let going: BTreeSet<&String> = disrupted.keys().collect();
    let healthy = view.pods.iter().filter(|p| {
        !meta::deleting(&p.metadata)
            && podstate::ready(p)
            && p.metadata.name.as_ref().is_none_or(|n| !going.contains(n))
    });
    let healthy = healthy.count() as i32;
    let allowed = if expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let generation = meta::generation(&budget.metadata);
    let had = budget.status.clone().unwrap_or_default();
    let mut status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: Some(generation),
        conditions: had.conditions.clone(),
    };
    let (state, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let conditions = status.conditions.get_or_insert_default();
    let at = conditions.iter().position(|c| c.type_ == "DisruptionAllowed");
    let since = at.map(|at| conditions.remove(at)).filter(|c| c.status == state).map(|c| c.last_transition_time);
    conditions.push(Condition {
        type_: "DisruptionAllowed".into(),
        status: state.into(),
        reason: reason.into(),
        message: String::new(),
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or_else(|| meta::time(now)),
    });
    if Some(&status) != budget.status.as_ref() {
        plan.status = Some(Action::update_status(&PodDisruptionBudget { status: Some(status), ..budget.clone() }));
    }
    plan
}

/// Evicted pods that are not yet being deleted.
fn disrupted(view: &View, plan: &mut Plan, now: Timestamp) -> BTreeMap<String, Time> {
    let had = view.budget.status.as_ref().and_then(|s| s.disrupted_pods.clone()).unwrap_or_default();
    let mut kept = BTreeMap::new();
    for pod in view.pods.iter().filter(|p| !meta::deleting(&p.metadata)) {
        let Some(at) = had.get(meta::name(&pod.metadata)) else { continue };
        let passed = Duration::try_from(now.duration_since(at.0)).unwrap_or(Duration::ZERO);
        if passed >= DELETION_MAX {
            let key = Key::of(&view.budget.metadata);
            let text = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            plan.events.push(Event::warning(pod.as_ref(), "NotDeleted", text));
        } else {
            plan.requeue(DELETION_MAX - passed);
            kept.insert(meta::name(&pod.metadata).to_string(), at.clone());
        }
    }
    kept
}
