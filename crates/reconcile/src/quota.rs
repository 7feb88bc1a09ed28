//! `ResourceQuota`: what a namespace uses of what it may. What counts towards which resource is in `kinds::quota`.
//!
//! kubernetes/kubernetes pkg/controller/resourcequota/resource_quota_controller.go: when it is counted again.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, ResourceQuotaStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kinds::quota::{Item, Usage, concerns, counted_resource, in_scope, usage};
use machinery::quantity::{Format, Quantity};

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx};
use crate::meta;
use crate::plan::{Action, Plan};
use crate::podstate;

pub static RESOURCEQUOTA: Controller = Controller {
    name: "resourcequota-controller",
    account: "resourcequota-controller",
    watches: &[
        (Of::ResourceQuota, of_quota),
        (Of::Pod, of_pod),
        (Of::Service, of_namespace),
        (Of::PersistentVolumeClaim, of_namespace),
    ],
    workers: 2,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.now)).unwrap_or_default(),
};

struct View {
    quota: Arc<ResourceQuota>,
    /// The objects that are looked into, each with its resource.
    items: Vec<(&'static str, Item)>,
    /// How many objects there are of each name that only counts.
    counts: BTreeMap<String, usize>,
    /// The resources looked into of which the quota knows more than is seen here: the API server has charged it since.
    overtaken: Vec<&'static str>,
}

/// When a count that the API server was ahead of is looked at again, if nothing else brings it up before.
const COUNT_AGAIN: Duration = Duration::from_secs(10);

/// The resources whose objects are looked into.
const LOOKED_INTO: [&str; 3] = ["pods", "services", "persistentvolumeclaims"];

fn is_looked_into(name: &str) -> bool {
    LOOKED_INTO.iter().any(|resource| concerns(name, "", resource))
}

/// A quota matters when what it allows is new. A charge of the API server's is not a reason to count, for the object
/// that it is for may not be there yet.
fn of_quota(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    if let (Some(old), Some(new)) = (change.before::<ResourceQuota>(), change.after::<ResourceQuota>())
        && old.spec == new.spec
        && new.status.as_ref().and_then(|status| status.hard.as_ref())
            == new.spec.as_ref().and_then(|s| s.hard.as_ref())
    {
        return;
    }
    keys.extend(change.meta().map(Key::of));
}

/// The quotas of the changed object's namespace.
pub fn of_namespace(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(meta) = change.meta() else { return };
    keys.extend(cache.quotas.within(meta::namespace(meta)).iter().map(|q| Key::of(&q.metadata)));
}

/// A pod matters when it comes, ends or goes.
fn of_pod(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    if let (Some(old), Some(new)) = (change.before::<Pod>(), change.after::<Pod>())
        && podstate::finished(old) == podstate::finished(new)
        && meta::generation(&old.metadata) == meta::generation(&new.metadata)
    {
        return;
    }
    of_namespace(cache, change, keys);
}

fn hard(quota: &ResourceQuota) -> BTreeMap<String, Amount> {
    quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default()
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let quota = cx.cache.quotas.at(key)?;
    let graph = cx.cache.graph.lock().unwrap_or_else(PoisonError::into_inner);
    let mut counts = BTreeMap::new();
    for name in hard(&quota).keys() {
        if let Some((plural, group)) = counted_resource(name).filter(|_| !is_looked_into(name)) {
            counts.insert(name.clone(), graph.count(group, plural, &key.namespace));
        }
    }
    drop(graph);
    let cache = cx.cache;
    let seen = [cache.pods.seen(), cache.services.seen(), cache.claims.seen()];
    let charged = meta::revision(&quota.metadata);
    let overtaken =
        LOOKED_INTO.into_iter().zip(seen).filter(|(_, seen)| *seen < charged).map(|(name, _)| name).collect();
    let [pods, services, claims] = LOOKED_INTO;
    let namespace = &key.namespace;
    let pods = cx.cache.pods.within(namespace).into_iter().map(|pod| (pods, Item::Pod(pod)));
    let services = cx.cache.services.within(namespace).into_iter().map(|service| (services, Item::Service(service)));
    let claims = cx.cache.claims.within(namespace).into_iter().map(|claim| (claims, Item::Claim(claim)));
    Some(View { quota, items: pods.chain(services).chain(claims).collect(), counts, overtaken })
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn plan(view: &View, now: Timestamp) -> Plan {
    let quota = view.quota.as_ref();
    let hard = hard(quota);
    let mut sums = Usage::new();
    for (resource, item) in view.items.iter().filter(|(_, item)| in_scope(quota, item)) {
        for (name, amount) in usage("", resource, item, now) {
            sums.entry(name).and_modify(|sum| *sum += amount).or_insert(amount);
        }
    }
    let charged = quota.status.as_ref().and_then(|status| status.used.as_ref());
    let mut used = BTreeMap::new();
    let mut waiting = false;
    for name in hard.keys() {
        let overtaken = view.overtaken.iter().any(|resource| concerns(name, "", resource));
        let counted = if is_looked_into(name) {
            Some(sums.get(name).copied().unwrap_or(Quantity::ZERO))
        } else {
            view.counts.get(name).copied().map(number)
        };
        let counted = counted.map(|amount| Amount(amount.to_string()));
        match charged.and_then(|used| used.get(name)).filter(|_| overtaken) {
            Some(charged) => {
                waiting |= Some(charged) != counted.as_ref();
                used.insert(name.clone(), charged.clone());
            }
            None => used.extend(counted.map(|amount| (name.clone(), amount))),
        }
    }
    // What was charged for is about to be seen; what in the end was not created is found out later.
    let requeue_after = waiting.then_some(COUNT_AGAIN);
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    if Some(&status) == quota.status.as_ref() {
        return Plan { requeue_after, ..Plan::default() };
    }
    let updated = ResourceQuota { status: Some(status), ..quota.clone() };
    Plan { status: Some(Action::update_status(&updated)), requeue_after, ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_charge_for_a_pod_that_is_not_seen_yet_stands() {
        let quota = json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": {"pods": "2", "services": "2"}},
            "status": {"hard": {"pods": "2", "services": "2"}, "used": {"pods": "2", "services": "2"}}});
        let quota: Arc<ResourceQuota> = Arc::new(serde_json::from_value(quota).unwrap());
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "one"}, "spec": {"containers": []}})).unwrap();
        let view = |overtaken| View {
            quota: quota.clone(),
            items: vec![("pods", Item::Pod(Arc::new(pod.clone())))],
            counts: BTreeMap::new(),
            overtaken,
        };
        let written = |plan: &Plan| format!("{:?}", plan.status);
        let behind = plan(&view(vec!["pods"]), Timestamp::UNIX_EPOCH);
        assert_eq!(behind.requeue_after, Some(COUNT_AGAIN));
        assert!(written(&behind).contains(r#""pods": String("2"), "services": String("0")"#), "{}", written(&behind));
        let level = plan(&view(Vec::new()), Timestamp::UNIX_EPOCH);
        assert_eq!(level.requeue_after, None);
        assert!(written(&level).contains(r#""pods": String("1"), "services": String("0")"#), "{}", written(&level));
    }
}
