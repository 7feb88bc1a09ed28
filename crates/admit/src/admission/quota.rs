//! ResourceQuota: what an object counts towards a namespace's quotas, and whether it still fits.
//!
//! kubernetes/kubernetes pkg/quota/v1/evaluator/core, staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceRequirements, Service};
use machinery::quantity::{Format, Quantity};
use machinery::status::Status;
use serde_json::Value;

use super::{Request, View, decode};

/// Amounts by quota resource name (`pods`, `requests.cpu`, `count/jobs.batch`).
pub type Usage = BTreeMap<String, Quantity>;

fn one(n: i64) -> Quantity {
    Quantity::new(n, Format::DecimalSi)
}

fn add(usage: &mut Usage, name: impl Into<String>, amount: Quantity) {
    let name = name.into();
    let sum = match usage.remove(&name) {
        Some(before) => before + amount,
        None => amount,
    };
    usage.insert(name, sum);
}

/// What one object counts. Names that no quota limits are listed all the same.
pub fn usage_of(group: &str, resource: &str, object: &Value) -> Result<Usage, String> {
    let mut usage = Usage::new();
    let counted = if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") };
    add(&mut usage, counted, one(1));
    match (group, resource) {
        ("", "pods") => pod(&typed(object)?, &mut usage),
        ("", "services") => service(&typed(object)?, &mut usage),
        ("", "persistentvolumeclaims") => claim(&typed(object)?, &mut usage),
        ("", "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas") => {
            add(&mut usage, resource, one(1));
        }
        _ => {}
    }
    Ok(usage)
}

fn typed<T: serde::de::DeserializeOwned>(object: &Value) -> Result<T, String> {
    T::deserialize(object).map_err(|error| error.to_string())
}

fn pod(pod: &Pod, usage: &mut Usage) {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return;
    }
    add(usage, "pods", one(1));
    let Some(spec) = pod.spec.as_ref() else { return };
    let mut totals: [Usage; 2] = Default::default();
    for container in &spec.containers {
        for (total, amounts) in totals.iter_mut().zip(requirements(container.resources.as_ref())) {
            amounts.into_iter().for_each(|(name, amount)| add(total, name, amount));
        }
    }
    for container in spec.init_containers.iter().flatten() {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        for (total, amounts) in totals.iter_mut().zip(requirements(container.resources.as_ref())) {
            for (name, amount) in amounts {
                match total.get(&name) {
                    _ if sidecar => add(total, name, amount),
                    Some(before) if *before >= amount => {}
                    _ => {
                        total.insert(name, amount);
                    }
                }
            }
        }
    }
    let [requests, limits] = totals;
    for (name, amount) in requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(usage, name.clone(), amount);
        }
        if !name.starts_with("hugepages-") || name.starts_with("requests.") {
            add(usage, format!("requests.{name}"), amount);
        } else {
            add(usage, format!("requests.{name}"), amount);
            add(usage, name, amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            add(usage, format!("limits.{name}"), amount);
        }
    }
}

fn requirements(resources: Option<&ResourceRequirements>) -> [Usage; 2] {
    let read = |map: Option<&BTreeMap<String, _>>| -> Usage {
        let pairs = map.into_iter().flatten();
        pairs
            .filter_map(|(name, text): (&String, &k8s_openapi::apimachinery::pkg::api::resource::Quantity)| {
                Some((name.clone(), Quantity::parse(&text.0).ok()?))
            })
            .collect()
    };
    [read(resources.and_then(|r| r.requests.as_ref())), read(resources.and_then(|r| r.limits.as_ref()))]
}

fn service(service: &Service, usage: &mut Usage) {
    add(usage, "services", one(1));
    let Some(spec) = service.spec.as_ref() else { return };
    let ports = one(i64::try_from(spec.ports.as_ref().map_or(0, Vec::len)).unwrap_or(i64::MAX));
    match spec.type_.as_deref() {
        Some("NodePort") => add(usage, "services.nodeports", ports),
        Some("LoadBalancer") => {
            add(usage, "services.loadbalancers", one(1));
            if spec.allocate_load_balancer_node_ports != Some(false) {
                add(usage, "services.nodeports", ports);
            }
        }
        _ => {}
    }
}

fn claim(claim: &PersistentVolumeClaim, usage: &mut Usage) {
    add(usage, "persistentvolumeclaims", one(1));
    let spec = claim.spec.as_ref();
    let class = spec.and_then(|s| s.storage_class_name.as_deref());
    if let Some(class) = class {
        add(usage, format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one(1));
    }
    let requests = spec.and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    let Some(size) = requests.and_then(|r| r.get("storage")).and_then(|text| Quantity::parse(&text.0).ok()) else {
        return;
    };
    add(usage, "requests.storage", size);
    if let Some(class) = class {
        add(usage, format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
    }
}

/// Whether a quota's scopes take in the object. Only pods are told apart by scope.
pub fn in_scope(quota: &ResourceQuota, group: &str, resource: &str, object: &Value) -> bool {
    let Some(spec) = quota.spec.as_ref() else { return true };
    let plain = spec.scopes.iter().flatten().map(|scope| (scope.as_str(), "Exists", &[][..]));
    let selected = spec.scope_selector.iter().flat_map(|s| s.match_expressions.iter().flatten());
    let selected =
        selected.map(|e| (e.scope_name.as_str(), e.operator.as_str(), e.values.as_deref().unwrap_or_default()));
    plain.chain(selected).all(|(scope, operator, values)| {
        (group, resource) == ("", "pods") && pod_in_scope(object, scope, operator, values)
    })
}

fn pod_in_scope(pod: &Value, scope: &str, operator: &str, values: &[String]) -> bool {
    let spec = &pod["spec"];
    let terminating = spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    let best_effort = || {
        ["containers", "initContainers"].iter().all(|list| {
            spec[list].as_array().into_iter().flatten().all(|container| {
                ["requests", "limits"].iter().all(|kind| {
                    let amounts = container["resources"][kind].as_object();
                    amounts.is_none_or(|a| !a.contains_key("cpu") && !a.contains_key("memory"))
                })
            })
        })
    };
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().unwrap_or_default();
            match operator {
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                "NotIn" => !values.iter().any(|v| v == class),
                _ => values.iter().any(|v| v == class),
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(&spec["affinity"]),
        _ => false,
    }
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let term =
        |t: &Value| !t["namespaceSelector"].is_null() || t["namespaces"].as_array().is_some_and(|n| !n.is_empty());
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let required = affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"].as_array();
        let preferred = affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"].as_array();
        required.into_iter().flatten().any(term)
            || preferred.into_iter().flatten().any(|weighted| term(&weighted["podAffinityTerm"]))
    })
}

/// The quotas with their new `status.used` after the object is taken in (as replacing `old`, if there is one); a refusal
/// when one is exceeded. The caller stores them with a compare, and asks again when another write came between.
pub fn admit(
    request: &Request,
    view: &dyn View,
    new: &Value,
    old: Option<&Value>,
) -> Result<Vec<(std::sync::Arc<ResourceQuota>, Usage)>, Status> {
    let unreadable = |words: String| Status::bad_request(format!("{} is not as its type: {words}", request.kind));
    let wanted = usage_of(request.group, request.resource, new).map_err(unreadable)?;
    let before = old
        .map(|old| usage_of(request.group, request.resource, old))
        .transpose()
        .map_err(unreadable)?
        .unwrap_or_default();
    let mut changed = Vec::new();
    for quota in view.quotas(request.namespace) {
        if !in_scope(&quota, request.group, request.resource, new) {
            continue;
        }
        let hard = amounts(quota.spec.as_ref().and_then(|s| s.hard.as_ref()));
        let used = amounts(quota.status.as_ref().and_then(|s| s.used.as_ref()));
        let name = quota.metadata.name.clone().unwrap_or_default();
        must_be_given(request, &name, &hard, new)?;
        let delta: Usage = wanted
            .iter()
            .filter(|(resource, _)| hard.contains_key(*resource))
            .map(|(resource, amount)| {
                let less = before.get(resource).cloned().unwrap_or_else(|| one(0));
                (resource.clone(), *amount - less)
            })
            .filter(|(_, amount)| !amount.is_zero())
            .collect();
        if delta.is_empty() {
            continue;
        }
        let mut total = used.clone();
        delta.iter().for_each(|(resource, amount)| add(&mut total, resource.clone(), *amount));
        let over: Vec<&String> =
            delta.keys().filter(|r| delta[*r].sign() > 0 && total.get(*r) > hard.get(*r)).collect();
        if !over.is_empty() {
            let list = |from: &Usage| {
                let shown = |r: &&&String| from.get(**r).map_or("0".to_owned(), ToString::to_string);
                over.iter().map(|r| format!("{r}={}", shown(&r))).collect::<Vec<_>>().join(",")
            };
            return Err(request.forbidden(format_args!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                list(&delta),
                list(&used),
                list(&hard)
            )));
        }
        changed.push((quota, total));
    }
    Ok(changed)
}

/// A quota on compute resources obliges every container to say what it wants.
fn must_be_given(request: &Request, quota: &str, hard: &Usage, new: &Value) -> Result<(), Status> {
    if !request.is("", "pods") {
        return Ok(());
    }
    let pod: Pod = decode(request, new)?;
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in hard.keys() {
        let (side, resource) = match name.split_once('.') {
            Some(("requests", resource)) => (0, resource),
            Some(("limits", resource)) => (1, resource),
            None if matches!(name.as_str(), "cpu" | "memory") => (0, name.as_str()),
            _ => continue,
        };
        if !matches!(resource, "cpu" | "memory") {
            continue;
        }
        let Some(spec) = pod.spec.as_ref() else { continue };
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            if !requirements(container.resources.as_ref())[side].contains_key(resource) {
                missing.entry(name.clone()).or_default().push(container.name.clone());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> =
        missing.iter().map(|(resource, containers)| format!("{resource} for: {}", containers.join(","))).collect();
    Err(request.forbidden(format_args!("failed quota: {quota}: must specify {}", listed.join("; "))))
}

fn amounts(map: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>) -> Usage {
    map.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}
