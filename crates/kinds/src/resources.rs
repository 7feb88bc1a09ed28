//! What a pod asks for: requests, limits, and the quality of service that follows from them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use machinery::quantity::Quantity;
use serde_json::{Map, Value};

use crate::columns::{list, text};

/// Resources by name.
pub type Amounts = BTreeMap<String, Quantity>;

fn amounts(resources: &Value, field: &str) -> Amounts {
    let entries = resources.get(field).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), parse(value)?))).collect()
}

fn parse(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

fn add(into: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match into.get_mut(name) {
            Some(sum) => *sum += *amount,
            None => {
                into.insert(name.clone(), *amount);
            }
        }
    }
}

fn keep_larger(into: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if into.get(name).is_none_or(|has| has < amount) {
            into.insert(name.clone(), *amount);
        }
    }
}

/// What one container asks for, or the pod as a whole.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    pub requests: Amounts,
    pub limits: Amounts,
}

impl Resources {
    /// What has a limit and no request is requested up to its limit, as defaulting writes it.
    fn new(requests: Amounts, limits: Amounts) -> Resources {
        let mut full = limits.clone();
        full.extend(requests);
        Resources { requests: full, limits }
    }

    fn of(requirements: Option<&ResourceRequirements>) -> Resources {
        let side =
            |pick: fn(&ResourceRequirements) -> Option<&BTreeMap<String, Written>>| typed(requirements.and_then(pick));
        Resources::new(side(|r| r.requests.as_ref()), side(|r| r.limits.as_ref()))
    }

    fn of_json(resources: &Value) -> Resources {
        Resources::new(amounts(resources, "requests"), amounts(resources, "limits"))
    }
}

/// A pod as these rules see it, whether it is at hand as JSON or typed.
#[derive(Debug, Clone, Default)]
pub struct PodResources {
    containers: Vec<Resources>,
    /// In the order they run, each with whether it goes on running beside the others.
    init: Vec<(bool, Resources)>,
    /// What the pod says of itself; none when it says nothing.
    own: Option<Resources>,
    overhead: Amounts,
}

impl From<&Value> for PodResources {
    fn from(pod: &Value) -> PodResources {
        let own = Resources {
            requests: amounts(&pod["spec"]["resources"], "requests"),
            limits: amounts(&pod["spec"]["resources"], "limits"),
        };
        let containers = list(pod, "/spec/containers").iter();
        let init = list(pod, "/spec/initContainers").iter();
        PodResources {
            containers: containers.map(|c| Resources::of_json(&c["resources"])).collect(),
            init: init.map(|c| (text(c, "/restartPolicy") == ALWAYS, Resources::of_json(&c["resources"]))).collect(),
            own: Some(own).filter(Resources::says_anything),
            overhead: amounts(&pod["spec"], "overhead"),
        }
    }
}

impl From<&PodSpec> for PodResources {
    fn from(spec: &PodSpec) -> PodResources {
        let own = spec
            .resources
            .as_ref()
            .map(|own| Resources { requests: typed(own.requests.as_ref()), limits: typed(own.limits.as_ref()) });
        let init = spec.init_containers.iter().flatten();
        PodResources {
            containers: spec.containers.iter().map(|c| Resources::of(c.resources.as_ref())).collect(),
            init: init
                .map(|c| (c.restart_policy.as_deref() == Some(ALWAYS), Resources::of(c.resources.as_ref())))
                .collect(),
            own: own.filter(Resources::says_anything),
            overhead: typed(spec.overhead.as_ref()),
        }
    }
}

impl From<&Pod> for PodResources {
    fn from(pod: &Pod) -> PodResources {
        pod.spec.as_ref().map(PodResources::from).unwrap_or_default()
    }
}

/// The restart policy of an init container that runs beside the others.
const ALWAYS: &str = "Always";

fn typed(written: Option<&BTreeMap<String, Written>>) -> Amounts {
    let entries = written.into_iter().flatten();
    entries.filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}

impl Resources {
    fn says_anything(&self) -> bool {
        !(self.requests.is_empty() && self.limits.is_empty())
    }
}

impl PodResources {
    /// What the scheduler and quotas count a pod as: containers and sidecars in sum, or the largest step of
    /// initialization where that is more, with the overhead; the pod's own requests win where it has them.
    ///
    /// `k8s.io/component-helpers resource/helpers.go PodRequests`.
    pub fn requests(&self) -> Amounts {
        self.requests_adjusted(|_| {})
    }

    /// The same, after each container's requests have been changed.
    pub fn requests_adjusted(&self, adjust: impl Fn(&mut Amounts)) -> Amounts {
        let mut total = self.at_once(|resources| {
            let mut requests = resources.requests.clone();
            adjust(&mut requests);
            requests
        });
        total.extend(self.own.iter().flat_map(|own| own.requests.clone()));
        add(&mut total, &self.overhead);
        total
    }

    /// The same for limits.
    pub fn limits(&self) -> Amounts {
        let mut total = self.at_once(|resources| resources.limits.clone());
        total.extend(self.own.iter().flat_map(|own| own.limits.clone()));
        for (name, amount) in &self.overhead {
            // A resource without a limit stays without one.
            if let Some(sum) = total.get_mut(name) {
                *sum += *amount;
            }
        }
        total
    }

    /// The pod's limit of one resource; none when it has none of its own and a container is without.
    pub fn limit(&self, name: &str) -> Option<Quantity> {
        let limited = |resources: &Resources| resources.limits.get(name).is_some_and(|amount| amount.sign() > 0);
        let all = self.containers.iter().chain(self.init.iter().map(|(_, resources)| resources)).all(limited);
        if self.own.as_ref().is_some_and(limited) || all { self.limits().get(name).copied() } else { None }
    }

    /// What a pod counts as while it may be in the middle of a resize: the most of what it asks for, what it was
    /// promised and what it has; a resize that cannot be counts for nothing.
    ///
    /// `k8s.io/component-helpers resource/helpers.go AggregateContainerRequests` with `UseStatusResources`.
    pub fn counted(pod: &Pod) -> Resources {
        let asked = PodResources::from(pod);
        let status = pod.status.as_ref();
        let lists = status.into_iter().flat_map(|s| [&s.container_statuses, &s.init_container_statuses]);
        let statuses: Vec<&ContainerStatus> = lists.flat_map(|list| list.iter().flatten()).collect();
        if statuses.iter().all(|status| status.resources.is_none() && status.allocated_resources.is_none()) {
            return Resources { requests: asked.requests(), limits: asked.limits() };
        }
        let of = |name: &str| statuses.iter().find(|status| status.name == name);
        let promised = asked.replaced(pod, |name| Some(typed(Some(of(name)?.allocated_resources.as_ref()?))), |_| None);
        let has = asked.replaced(
            pod,
            |name| Some(typed(Some(of(name)?.resources.as_ref()?.requests.as_ref()?))),
            |name| Some(typed(Some(of(name)?.resources.as_ref()?.limits.as_ref()?))),
        );
        let conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
        let mut pending = conditions.filter(|condition| condition.type_ == "PodResizePending");
        let infeasible = pending.any(|condition| condition.reason.as_deref() == Some("Infeasible"));
        let (mut requests, mut limits) = (has.requests(), has.limits());
        keep_larger(&mut requests, &promised.requests());
        if !infeasible {
            keep_larger(&mut requests, &asked.requests());
            keep_larger(&mut limits, &asked.limits());
        }
        Resources { requests, limits }
    }

    /// With the requests and limits of containers replaced, by name, where there are others.
    fn replaced(
        &self,
        pod: &Pod,
        requests: impl Fn(&str) -> Option<Amounts>,
        limits: impl Fn(&str) -> Option<Amounts>,
    ) -> PodResources {
        let mut other = self.clone();
        let Some(spec) = pod.spec.as_ref() else { return other };
        let names = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|c| c.name.as_str());
        let parts = other.containers.iter_mut().chain(other.init.iter_mut().map(|(_, resources)| resources));
        for (name, resources) in names.zip(parts) {
            if let Some(found) = requests(name) {
                resources.requests = found;
            }
            if let Some(found) = limits(name) {
                resources.limits = found;
            }
        }
        other
    }

    /// What runs at once at most.
    fn at_once(&self, of: impl Fn(&Resources) -> Amounts) -> Amounts {
        let mut total = Amounts::new();
        self.containers.iter().for_each(|container| add(&mut total, &of(container)));
        let mut sidecars = Amounts::new();
        let mut peak = Amounts::new();
        for (sidecar, container) in &self.init {
            let own = of(container);
            if *sidecar {
                add(&mut total, &own);
                add(&mut sidecars, &own);
                keep_larger(&mut peak, &sidecars);
            } else {
                let mut step = own;
                add(&mut step, &sidecars);
                keep_larger(&mut peak, &step);
            }
        }
        keep_larger(&mut total, &peak);
        total
    }

    /// `Guaranteed`, `Burstable` or `BestEffort`.
    ///
    /// `kubernetes/kubernetes pkg/apis/core/v1/helper/qos/qos.go`: only CPU and memory count, and an amount of zero
    /// does not.
    pub fn qos_class(&self) -> &'static str {
        let mut requests = Amounts::new();
        let mut limits = Amounts::new();
        let mut all_limited = true;
        let parts: Vec<&Resources> = match &self.own {
            Some(own) => vec![own],
            None => self.containers.iter().chain(self.init.iter().map(|(_, resources)| resources)).collect(),
        };
        for part in parts {
            add(&mut requests, &counted(&part.requests));
            let limited = counted(&part.limits);
            all_limited &= ["cpu", "memory"].iter().all(|name| limited.contains_key(*name));
            add(&mut limits, &limited);
        }
        match (requests.is_empty() && limits.is_empty(), all_limited) {
            (true, _) => "BestEffort",
            (false, true) if requests == limits => "Guaranteed",
            (false, _) => "Burstable",
        }
    }
}

fn counted(amounts: &Amounts) -> Amounts {
    let counts = |(name, amount): &(&String, &Quantity)| matches!(name.as_str(), "cpu" | "memory") && amount.sign() > 0;
    amounts.iter().filter(counts).map(|(name, amount)| (name.clone(), *amount)).collect()
}

/// `kubernetes/kubernetes pkg/api/pod/util.go DefaultPodLevelResources`: a pod that says some of its own limits
/// requests what its containers request in sum, else what it is limited to.
pub fn default_pod_requests(pod: &mut Value) {
    let limits = amounts(&pod["spec"]["resources"], "limits");
    if limits.is_empty() {
        return;
    }
    let from_containers = PodResources { own: None, overhead: Amounts::new(), ..PodResources::from(&*pod) }.requests();
    let written = &pod["spec"]["resources"]["requests"];
    let mut requests: Map<String, Value> = written.as_object().cloned().unwrap_or_default();
    for (name, amount) in from_containers.iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")) {
        requests.entry(name.clone()).or_insert_with(|| Value::from(amount.to_string()));
    }
    for (name, amount) in &limits {
        if matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-") {
            requests.entry(name.clone()).or_insert_with(|| Value::from(amount.to_string()));
        }
    }
    if !requests.is_empty() {
        pod["spec"]["resources"]["requests"] = Value::Object(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_largest_step_of_initialization_counts() {
        let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut sidecar = container("100m");
        sidecar["restartPolicy"] = json!("Always");
        let pod = json!({"spec": {"containers": [container("200m")], "initContainers": [sidecar, container("1")]}});
        let seen = PodResources::from(&pod);
        assert_eq!(seen.requests()["cpu"].to_string(), "1100m");
        assert_eq!(seen.qos_class(), "Burstable");
        assert_eq!(PodResources::from(&json!({"spec": {"containers": [{}]}})).qos_class(), "BestEffort");
        let same = json!({"cpu": "1", "memory": "1Gi"});
        let full = json!({"spec": {"containers": [{"resources": {"requests": same, "limits": same}}]}});
        assert_eq!(PodResources::from(&full).qos_class(), "Guaranteed");
    }

    #[test]
    fn json_and_typed_pods_are_the_same() {
        let container =
            json!({"name": "c", "resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "1", "memory": "1Gi"}}});
        let pod = json!({"metadata": {}, "spec": {
            "containers": [container, container], "initContainers": [{"name": "i", "restartPolicy": "Always", "resources": {"limits": {"cpu": "50m", "memory": "1Mi"}}}],
            "overhead": {"cpu": "10m"}, "resources": {"limits": {"memory": "4Gi"}},
        }});
        let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
        for seen in [PodResources::from(&pod), PodResources::from(&typed)] {
            let shown =
                |amounts: Amounts| amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>();
            assert_eq!(shown(seen.requests()), ["cpu=460m", "memory=2049Mi"]);
            assert_eq!(shown(seen.limits()), ["cpu=2060m", "memory=4Gi"]);
            assert_eq!(seen.limit("memory").unwrap().to_string(), "4Gi");
            assert_eq!(seen.limit("cpu").unwrap().to_string(), "2060m");
            assert_eq!(seen.limit("ephemeral-storage"), None);
        }
    }
}
