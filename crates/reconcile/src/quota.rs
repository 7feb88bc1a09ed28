//! `ResourceQuota`: what a namespace uses of what it may. What counts towards which resource is in `kinds::quota`.
//!
//! kubernetes/kubernetes pkg/controller/resourcequota/resource_quota_controller.go: when it is counted again.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

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
}

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
    let [pods, services, claims] = LOOKED_INTO;
    let namespace = &key.namespace;
    let pods = cx.cache.pods.within(namespace).into_iter().map(|pod| (pods, Item::Pod(pod)));
    let services = cx.cache.services.within(namespace).into_iter().map(|service| (services, Item::Service(service)));
    let claims = cx.cache.claims.within(namespace).into_iter().map(|claim| (claims, Item::Claim(claim)));
    Some(View { quota, items: pods.chain(services).chain(claims).collect(), counts })
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
    let mut used = BTreeMap::new();
    for name in hard.keys() {
        let amount = if is_looked_into(name) {
            Some(sums.get(name).copied().unwrap_or(Quantity::ZERO))
        } else {
            view.counts.get(name).copied().map(number)
        };
        if let Some(amount) = amount {
            used.insert(name.clone(), Amount(amount.to_string()));
        }
    }
    let status = ResourceQuotaStatus { hard: Some(hard), used: Some(used) };
    if Some(&status) == quota.status.as_ref() {
        return Plan::default();
    }
    let updated = ResourceQuota { status: Some(status), ..quota.clone() };
    Plan { status: Some(Action::update_status(&updated)), ..Plan::default() }
}
