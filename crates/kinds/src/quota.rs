//! ResourceQuota: what an object counts, and which quotas take it in. Admission charges by these rules, and the
//! controller counts again by the same.
//!
//! `kubernetes/kubernetes pkg/quota/v1/evaluator/core`: the evaluators; `kubernetes/apiserver pkg/quota/v1/generic`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, Pod, PodAffinityTerm, ResourceQuota, ScopedResourceSelectorRequirement, Service,
};
use machinery::quantity::{Format, Quantity};
use serde::Deserialize as _;
use serde_json::Value;

use crate::resources::PodResources;

/// Amounts by quota resource name (`pods`, `requests.cpu`, `count/jobs.batch`).
pub type Usage = BTreeMap<String, Quantity>;

/// An object as far as quotas look into it.
#[derive(Debug, Clone)]
pub enum Item {
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    Claim(Arc<PersistentVolumeClaim>),
    /// Only counted.
    Other,
}

/// What is done to an object that quotas may charge for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Create,
    Update,
}

impl Item {
    /// An object of a resource; an error when it is not as its type.
    pub fn read(group: &str, resource: &str, object: &Value) -> Result<Item, serde_json::Error> {
        Ok(match (group, resource) {
            ("", "pods") => Item::Pod(Arc::new(Pod::deserialize(object)?)),
            ("", "services") => Item::Service(Arc::new(Service::deserialize(object)?)),
            ("", "persistentvolumeclaims") => Item::Claim(Arc::new(PersistentVolumeClaim::deserialize(object)?)),
            _ => Item::Other,
        })
    }

    /// Whether a write is charged for at all. Most updates are not, so that an object older than a quota can still
    /// be changed.
    pub fn charged(&self, write: Write, subresource: &str, old: Option<&Item>) -> bool {
        match (self, subresource, write) {
            (_, "", Write::Create) => true,
            (Item::Pod(pod), "", Write::Update) => {
                matches!(old, Some(Item::Pod(old)) if is_terminating(old) != is_terminating(pod))
            }
            (Item::Pod(_), "resize", Write::Update) => true,
            (Item::Service(_) | Item::Claim(_), "", Write::Update) => true,
            _ => false,
        }
    }

    /// What the object counts besides itself, at the time `now`.
    fn own_usage(&self, usage: &mut Usage, now: Timestamp) {
        match self {
            Item::Pod(pod) => {
                if is_counted(pod, now) {
                    usage.insert("pods".to_owned(), one());
                    let resources = PodResources::counted(pod);
                    compute(usage, &resources.requests, &resources.limits);
                }
            }
            Item::Service(service) => of_service(service, usage),
            Item::Claim(claim) => of_claim(claim, usage),
            Item::Other => {}
        }
    }
}

fn one() -> Quantity {
    number(1)
}

fn number(count: usize) -> Quantity {
    Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// The name under which every object of a resource is counted.
pub fn count_name(group: &str, resource: &str) -> String {
    if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") }
}

/// The plural and group of a name that counts objects in the store: `secrets`, `count/secrets`,
/// `count/deployments.apps`.
pub fn counted_resource(name: &str) -> Option<(&str, &str)> {
    match name {
        "configmaps"
        | "secrets"
        | "services"
        | "replicationcontrollers"
        | "resourcequotas"
        | "persistentvolumeclaims" => Some((name, "")),
        _ => name.strip_prefix("count/").map(|name| name.split_once('.').unwrap_or((name, ""))),
    }
}

/// What one object counts, whether a quota limits it or not.
pub fn usage(group: &str, resource: &str, item: &Item, now: Timestamp) -> Usage {
    let mut usage = Usage::from([(count_name(group, resource), one())]);
    if counted_resource(resource).is_some() && group.is_empty() {
        usage.insert(resource.to_owned(), one());
    }
    item.own_usage(&mut usage, now);
    usage
}

/// A pod that has ended, or that should have been gone by now, counts no more.
fn is_counted(pod: &Pod, now: Timestamp) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return false;
    }
    let meta = &pod.metadata;
    let (Some(deleted), Some(grace)) = (&meta.deletion_timestamp, meta.deletion_grace_period_seconds) else {
        return true;
    };
    deleted.0.checked_add(SignedDuration::from_secs(grace)).map_or(true, |end| now <= end)
}

/// A resource that a node vendor brings: of a domain of its own.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
        || name.starts_with("deviceclass.resource.kubernetes.io/")
}

/// Requests and limits under the names that quotas know them by.
fn compute(usage: &mut Usage, requests: &Usage, limits: &Usage) {
    for (name, amount) in requests {
        let native = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if native || name.starts_with("hugepages-") {
            usage.insert(name.clone(), *amount);
        }
        if native || name.starts_with("hugepages-") || is_extended(name) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
}

fn of_service(service: &Service, usage: &mut Usage) {
    let Some(spec) = service.spec.as_ref() else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let node_ports = match spec.type_.as_deref() {
        Some("NodePort") => ports.len(),
        Some("LoadBalancer") => {
            usage.insert("services.loadbalancers".to_owned(), one());
            // Ports are not allocated yet when this is asked, so it is the intent that counts.
            let explicit = || ports.iter().filter(|port| port.node_port.is_some_and(|port| port != 0)).count();
            if spec.allocate_load_balancer_node_ports == Some(false) { explicit() } else { ports.len() }
        }
        _ => 0,
    };
    if node_ports > 0 {
        usage.insert("services.nodeports".to_owned(), number(node_ports));
    }
}

const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

fn of_claim(claim: &PersistentVolumeClaim, usage: &mut Usage) {
    let amount = |map: Option<&BTreeMap<String, _>>| {
        let written: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = map?.get("storage")?;
        Quantity::parse(&written.0).ok()
    };
    let spec = claim.spec.as_ref();
    let annotated =
        claim.metadata.annotations.as_ref().and_then(|all| all.get("volume.beta.kubernetes.io/storage-class"));
    let class = annotated.map(String::as_str).or_else(|| spec?.storage_class_name.as_deref());
    let class = class.filter(|class| !class.is_empty());
    let asked = spec.and_then(|spec| amount(spec.resources.as_ref()?.requests.as_ref()));
    let allocated = claim.status.as_ref().and_then(|status| amount(status.allocated_resources.as_ref()));
    if let Some(class) = class {
        usage.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), one());
    }
    // An expansion that is under way counts by what was promised for it. Bytes are whole.
    let Some(size) = asked.map(|asked| allocated.map_or(asked, |allocated| allocated.max(asked))) else { return };
    let size = Quantity::new(size.value(), size.format());
    if let Some(class) = class {
        usage.insert(format!("{class}{OF_CLASS}requests.storage"), size);
    }
    usage.insert("requests.storage".to_owned(), size);
}

/// Whether a quota that limits `name` concerns the objects of a resource.
pub fn concerns(name: &str, group: &str, resource: &str) -> bool {
    if name == count_name(group, resource) {
        return true;
    }
    match (group, resource) {
        ("", "pods") => {
            let requested = name.strip_prefix("requests.");
            matches!(
                name,
                "pods"
                    | "cpu"
                    | "memory"
                    | "ephemeral-storage"
                    | "requests.cpu"
                    | "requests.memory"
                    | "requests.ephemeral-storage"
                    | "limits.cpu"
                    | "limits.memory"
                    | "limits.ephemeral-storage"
            ) || name.starts_with("hugepages-")
                || requested.is_some_and(|name| name.starts_with("hugepages-") || is_extended(name))
        }
        ("", "services") => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        ("", "persistentvolumeclaims") => {
            let plain = name.split_once(OF_CLASS).map_or(name, |(_, what)| what);
            matches!(plain, "persistentvolumeclaims" | "requests.storage")
        }
        _ => group.is_empty() && counted_resource(resource).is_some() && name == resource,
    }
}

/// Whether a quota's scopes take in the object.
pub fn in_scope(quota: &ResourceQuota, item: &Item) -> bool {
    let Some(spec) = quota.spec.as_ref() else { return true };
    let plain = spec.scopes.iter().flatten().map(|scope| (scope.as_str(), "Exists", &[][..]));
    let selected = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    plain.chain(selected.map(parts)).all(|(scope, operator, values)| match item {
        Item::Pod(pod) => pod_in_scope(pod, scope, operator, values),
        Item::Claim(claim) => scope == "VolumeAttributesClass" && claim_in_scope(claim, operator, values),
        _ => false,
    })
}

fn parts(requirement: &ScopedResourceSelectorRequirement) -> (&str, &str, &[String]) {
    (&requirement.scope_name, &requirement.operator, requirement.values.as_deref().unwrap_or_default())
}

/// `activeDeadlineSeconds` makes a pod one that ends by itself.
fn is_terminating(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Pod) -> bool {
    let said = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    said.unwrap_or_else(|| PodResources::from(pod).qos_class()) == "BestEffort"
}

fn pod_in_scope(pod: &Pod, scope: &str, operator: &str, values: &[String]) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            let class = pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref());
            selects(operator, values, class.filter(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn selects(operator: &str, values: &[String], has: Option<&str>) -> bool {
    let named = has.is_some_and(|has| values.iter().any(|value| value == has));
    match operator {
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "NotIn" => !named,
        _ => named,
    }
}

fn claim_in_scope(claim: &PersistentVolumeClaim, operator: &str, values: &[String]) -> bool {
    let status = claim.status.as_ref();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target =
        status.and_then(|status| status.modify_volume_status.as_ref()?.target_volume_attributes_class_name.as_deref());
    let classes: Vec<&str> = [wanted, current, target].into_iter().flatten().filter(|name| !name.is_empty()).collect();
    match classes.as_slice() {
        [] => selects(operator, values, None),
        classes => classes.iter().any(|class| selects(operator, values, Some(class))),
    }
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let leaves = |term: &PodAffinityTerm| {
        term.namespace_selector.is_some() || term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
    };
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else { return false };
    let with = affinity.pod_affinity.iter().flat_map(|with| {
        let weighted = with.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let required = with.required_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(weighted.map(|weighted| &weighted.pod_affinity_term))
    });
    let apart = affinity.pod_anti_affinity.iter().flat_map(|apart| {
        let weighted = apart.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        let required = apart.required_during_scheduling_ignored_during_execution.iter().flatten();
        required.chain(weighted.map(|weighted| &weighted.pod_affinity_term))
    });
    with.chain(apart).any(leaves)
}

/// The containers that leave out what a quota on CPU or memory obliges them to say, by the quota's name for it.
/// A pod that says it of itself need not say it of its containers.
pub fn unsaid(pod: &Pod, required: impl Iterator<Item = impl AsRef<str>>) -> BTreeMap<String, Vec<String>> {
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let Some(spec) = pod.spec.as_ref() else { return missing };
    let own = spec.resources.as_ref();
    let set = |map: Option<&BTreeMap<String, _>>| {
        map.is_some_and(|map: &BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>| {
            !map.is_empty()
        })
    };
    if own.is_some_and(|own| set(own.requests.as_ref()) || set(own.limits.as_ref())) {
        return missing;
    }
    for name in required {
        let name = name.as_ref();
        let (limits, resource) = match name.split_once('.') {
            Some(("requests", resource)) => (false, resource),
            Some(("limits", resource)) => (true, resource),
            _ => (false, name),
        };
        if !matches!(resource, "cpu" | "memory") {
            continue;
        }
        for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
            let resources = container.resources.as_ref();
            let said = resources.and_then(|said| if limits { said.limits.as_ref() } else { said.requests.as_ref() });
            if said.is_none_or(|said| !said.contains_key(resource)) {
                missing.entry(name.to_owned()).or_default().push(container.name.clone());
            }
        }
    }
    for containers in missing.values_mut() {
        containers.sort();
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: Value) -> Item {
        let object = json!({"metadata": {"name": "p"}, "spec": spec});
        Item::read("", "pods", &object).unwrap()
    }

    fn shown(usage: &Usage) -> String {
        usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_pod_counts_as_the_scheduler_counts_it() {
        let container =
            |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "example.com/gpu": "1"}}});
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let item = pod(json!({
            "containers": [container("200m")], "initContainers": [sidecar, container("1")], "overhead": {"cpu": "50m"},
        }));
        assert_eq!(
            shown(&usage("", "pods", &item, now())),
            "count/pods=1 cpu=1150m pods=1 requests.cpu=1150m requests.example.com/gpu=2"
        );
        let own = pod(
            json!({"containers": [{"name": "c"}], "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "4"}}}),
        );
        assert_eq!(shown(&usage("", "pods", &own, now())), "count/pods=1 cpu=3 limits.cpu=4 pods=1 requests.cpu=3");
        let Item::Pod(own) = own else { panic!("a pod") };
        assert!(unsaid(&own, ["requests.cpu"].iter()).is_empty(), "the pod says it of itself");
    }

    #[test]
    fn a_pod_that_should_be_gone_counts_no_more() {
        let of = |deleted: &str| {
            let meta = json!({"name": "p", "deletionTimestamp": deleted, "deletionGracePeriodSeconds": 30});
            let object = json!({"metadata": meta, "spec": {"containers": []}});
            shown(&usage("", "pods", &Item::read("", "pods", &object).unwrap(), now()))
        };
        assert_eq!(of("2025-12-31T23:59:45Z"), "count/pods=1 pods=1");
        assert_eq!(of("2025-12-31T23:59:15Z"), "count/pods=1");
    }

    #[test]
    fn plain_updates_of_pods_are_not_charged() {
        let (long, short) =
            (pod(json!({"containers": []})), pod(json!({"containers": [], "activeDeadlineSeconds": 5})));
        assert!(long.charged(Write::Create, "", None));
        assert!(!long.charged(Write::Update, "", Some(&long)));
        assert!(short.charged(Write::Update, "", Some(&long)), "it has changed its scope");
        assert!(long.charged(Write::Update, "resize", Some(&long)));
        assert!(!long.charged(Write::Update, "status", Some(&long)));
        assert!(!Item::Other.charged(Write::Update, "", Some(&Item::Other)));
    }

    #[test]
    fn services_and_claims_count_what_they_take() {
        let service = |spec: Value| {
            let object = json!({"metadata": {}, "spec": spec});
            shown(&usage("", "services", &Item::read("", "services", &object).unwrap(), now()))
        };
        let ports = json!([{"port": 80}, {"port": 81, "nodePort": 30081}]);
        assert_eq!(service(json!({"type": "ClusterIP", "ports": ports})), "count/services=1 services=1");
        assert_eq!(
            service(json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false})),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1"
        );
        let claim = json!({"metadata": {}, "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            shown(&usage(
                "",
                "persistentvolumeclaims",
                &Item::read("", "persistentvolumeclaims", &claim).unwrap(),
                now()
            )),
            "count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
             fast.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi"
        );
        let of_class = "fast.storageclass.storage.k8s.io/requests.storage";
        assert!(concerns(of_class, "", "persistentvolumeclaims") && !concerns(of_class, "", "pods"));
    }

    #[test]
    fn scopes_tell_pods_apart() {
        let quota = |scope: Value| -> ResourceQuota {
            serde_json::from_value(json!({"metadata": {}, "spec": {"scopeSelector": {"matchExpressions": [scope]}}}))
                .unwrap()
        };
        let by = |name: &str| quota(json!({"scopeName": name, "operator": "Exists"}));
        let limited = json!({"name": "c", "resources": {"limits": {"cpu": "1"}}});
        let plain = pod(json!({"containers": [limited], "priorityClassName": "high"}));
        let crossing = pod(json!({"containers": [{"name": "c"}], "affinity": {"podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "k", "namespaceSelector": {}}}]}}}));
        assert!(in_scope(&by("NotBestEffort"), &plain) && in_scope(&by("BestEffort"), &crossing));
        assert!(
            in_scope(&by("CrossNamespacePodAffinity"), &crossing)
                && !in_scope(&by("CrossNamespacePodAffinity"), &plain)
        );
        let class =
            |operator: &str| quota(json!({"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}));
        assert!(
            in_scope(&class("In"), &plain)
                && !in_scope(&class("In"), &crossing)
                && in_scope(&class("NotIn"), &crossing)
        );
        assert!(!in_scope(&by("BestEffort"), &Item::Other), "what has no scopes is in none");
    }
}
