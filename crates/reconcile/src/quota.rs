//! `ResourceQuota`: what a namespace uses of what it may.
//!
//! kubernetes/kubernetes pkg/quota/v1/evaluator/core: decides what counts towards which resource.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use kinds::resources::{pod_limits, pod_requests, qos_class};
use machinery::quantity::{Format, Quantity};

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{self, Action, Plan};
use crate::podstate;

pub static RESOURCEQUOTA: Controller = Controller {
    name: "resourcequota-controller",
    account: "resourcequota-controller",
    watches: &[
        (Of::ResourceQuota, own),
        (Of::Pod, of_pod),
        (Of::Service, of_namespace),
        (Of::PersistentVolumeClaim, of_namespace),
    ],
    workers: 2,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    quota: Arc<ResourceQuota>,
    pods: Vec<Arc<Pod>>,
    services: Vec<Arc<Service>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Objects of each resource that the quota counts.
    counts: BTreeMap<String, usize>,
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

/// `secrets`, `count/secrets` or `count/deployments.apps` as plural and group.
fn counted(name: &str) -> Option<(&str, &str)> {
    match name {
        "configmaps"
        | "secrets"
        | "services"
        | "replicationcontrollers"
        | "resourcequotas"
        | "persistentvolumeclaims" => Some((name, "")),
        _ => name.strip_prefix("count/").map(|n| n.split_once('.').unwrap_or((n, ""))),
    }
}

fn hard(quota: &ResourceQuota) -> BTreeMap<String, Amount> {
    quota.spec.as_ref().and_then(|s| s.hard.clone()).unwrap_or_default()
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let quota = cx.cache.quotas.at(key)?;
    let graph = cx.cache.graph.lock().unwrap_or_else(PoisonError::into_inner);
    let mut counts = BTreeMap::new();
    for name in hard(&quota).keys() {
        if let Some((plural, group)) = counted(name) {
            counts.insert(name.clone(), graph.count(group, plural, &key.namespace));
        }
    }
    drop(graph);
    Some(View {
        quota,
        pods: cx.cache.pods.within(&key.namespace),
        services: cx.cache.services.within(&key.namespace),
        claims: cx.cache.claims.within(&key.namespace),
        counts,
    })
}

fn in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else { return true };
    let deadline = pod.spec.as_ref().is_some_and(|s| s.active_deadline_seconds.is_some());
    let best_effort = || qos_class(&plan::value(pod)) == "BestEffort";
    let class = pod.spec.as_ref().and_then(|s| s.priority_class_name.clone()).unwrap_or_default();
    let simple = |scope: &str| match scope {
        "Terminating" => deadline,
        "NotTerminating" => !deadline,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        _ => true,
    };
    let selected = spec.scope_selector.as_ref().and_then(|s| s.match_expressions.as_ref());
    spec.scopes.iter().flatten().all(|scope| simple(scope))
        && selected.into_iter().flatten().all(|rule| {
            let values = rule.values.as_deref().unwrap_or(&[]);
            match (rule.scope_name.as_str(), rule.operator.as_str()) {
                ("PriorityClass", "In") => values.contains(&class),
                ("PriorityClass", "NotIn") => !values.contains(&class),
                ("PriorityClass", "Exists") => !class.is_empty(),
                ("PriorityClass", "DoesNotExist") => class.is_empty(),
                (scope, _) => simple(scope),
            }
        })
}

fn number(count: usize) -> Quantity {
    Quantity::new(count as i64, Format::DecimalSi)
}

/// What the pods use of `name`.
fn of_pods(name: &str, pods: &[&Arc<Pod>]) -> Option<Quantity> {
    let sum = |limits: bool, resource: &str| {
        let amounts = pods.iter().map(|pod| {
            let value = plan::value(pod.as_ref());
            if limits { pod_limits(&value) } else { pod_requests(&value) }
        });
        amounts.filter_map(|a| a.get(resource).copied()).fold(Quantity::ZERO, |sum, amount| sum + amount)
    };
    match name {
        "pods" => Some(number(pods.len())),
        "cpu" | "memory" | "ephemeral-storage" => Some(sum(false, name)),
        _ => match name.split_once('.') {
            Some(("requests", "storage")) => None,
            Some(("requests", resource)) => Some(sum(false, resource)),
            Some(("limits", resource)) => Some(sum(true, resource)),
            _ => None,
        },
    }
}

fn of_services(name: &str, services: &[Arc<Service>]) -> Option<Quantity> {
    let kind = |s: &Service| s.spec.as_ref().and_then(|s| s.type_.clone()).unwrap_or_default();
    match name {
        "services.nodeports" => Some(number(
            services
                .iter()
                .filter(|s| matches!(kind(s).as_str(), "NodePort" | "LoadBalancer"))
                .map(|s| {
                    s.spec.as_ref().map_or(0, |s| s.ports.iter().flatten().filter(|p| p.node_port.is_some()).count())
                })
                .sum(),
        )),
        "services.loadbalancers" => Some(number(services.iter().filter(|s| kind(s) == "LoadBalancer").count())),
        _ => None,
    }
}

fn of_claims(name: &str, claims: &[Arc<PersistentVolumeClaim>]) -> Option<Quantity> {
    let (class, what) = match name.split_once(".storageclass.storage.k8s.io/") {
        Some((class, what)) => (Some(class), what),
        None => (None, name),
    };
    let of_class = |c: &&Arc<PersistentVolumeClaim>| {
        class.is_none() || c.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()) == class
    };
    let chosen = claims.iter().filter(of_class);
    match what {
        "requests.storage" => {
            let asked = chosen.filter_map(|c| {
                let requests = c.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
                Quantity::parse(&requests.get("storage")?.0).ok()
            });
            Some(asked.fold(Quantity::ZERO, |sum, amount| sum + amount))
        }
        "persistentvolumeclaims" if class.is_some() => Some(number(chosen.count())),
        _ => None,
    }
}

fn plan(view: &View) -> Plan {
    let quota = view.quota.as_ref();
    let pods: Vec<&Arc<Pod>> = view.pods.iter().filter(|p| !podstate::finished(p) && in_scope(quota, p)).collect();
    let hard = hard(quota);
    let mut used = BTreeMap::new();
    for name in hard.keys() {
        let amount = view
            .counts
            .get(name)
            .map(|count| number(*count))
            .or_else(|| of_pods(name, &pods))
            .or_else(|| of_services(name, &view.services))
            .or_else(|| of_claims(name, &view.claims));
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
