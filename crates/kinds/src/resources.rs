//! What a pod asks for: requests, limits, and the quality of service that follows from them.

use std::collections::BTreeMap;

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

/// What the scheduler counts a pod as: containers and sidecars in sum, or the largest step of initialization where
/// that is more, with the overhead; the pod's own requests win where it has them.
///
/// `k8s.io/component-helpers resource/helpers.go PodRequests`.
pub fn pod_requests(pod: &Value) -> Amounts {
    pod_amounts(pod, "requests")
}

/// The same for limits.
pub fn pod_limits(pod: &Value) -> Amounts {
    pod_amounts(pod, "limits")
}

fn pod_amounts(pod: &Value, field: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in list(pod, "/spec/containers") {
        add(&mut total, &amounts(&container["resources"], field));
    }
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in list(pod, "/spec/initContainers") {
        let own = amounts(&container["resources"], field);
        if text(container, "/restartPolicy") == "Always" {
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
    for (name, amount) in amounts(&pod["spec"]["resources"], field) {
        total.insert(name, amount);
    }
    let overhead = amounts(&pod["spec"], "overhead");
    match field {
        "requests" => add(&mut total, &overhead),
        // A resource without a limit stays without one.
        _ => {
            for (name, amount) in overhead {
                if let Some(sum) = total.get_mut(&name) {
                    *sum += amount;
                }
            }
        }
    }
    total
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
///
/// `kubernetes/kubernetes pkg/apis/core/v1/helper/qos/qos.go`: only CPU and memory count, and an amount of zero does not.
pub fn qos_class(pod: &Value) -> &'static str {
    let own = &pod["spec"]["resources"];
    let has_own = ["requests", "limits"].iter().any(|field| own[*field].as_object().is_some_and(|map| !map.is_empty()));
    let parts: Vec<&Value> = if has_own {
        vec![own]
    } else {
        let containers = list(pod, "/spec/containers").iter().chain(list(pod, "/spec/initContainers"));
        containers.map(|container| &container["resources"]).collect()
    };
    let mut requests = Amounts::new();
    let mut limits = Amounts::new();
    let mut all_limited = true;
    for resources in parts {
        add(&mut requests, &counted(resources, "requests"));
        let limited = counted(resources, "limits");
        all_limited &= ["cpu", "memory"].iter().all(|name| limited.contains_key(*name));
        add(&mut limits, &limited);
    }
    match (requests.is_empty() && limits.is_empty(), all_limited) {
        (true, _) => "BestEffort",
        (false, true) if requests == limits => "Guaranteed",
        (false, _) => "Burstable",
    }
}

fn counted(resources: &Value, field: &str) -> Amounts {
    let mut found = amounts(resources, field);
    found.retain(|name, amount| matches!(name.as_str(), "cpu" | "memory") && amount.sign() > 0);
    found
}

/// `kubernetes/kubernetes pkg/api/pod/util.go DefaultPodLevelResources`: a pod that says some of its own limits
/// requests what its containers request in sum, else what it is limited to.
pub fn default_pod_requests(pod: &mut Value) {
    let limits = amounts(&pod["spec"]["resources"], "limits");
    if limits.is_empty() {
        return;
    }
    let mut bare = pod.clone();
    if let Some(spec) = bare["spec"].as_object_mut() {
        spec.remove("resources");
        spec.remove("overhead");
    }
    let from_containers = pod_requests(&bare);
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
        assert_eq!(pod_requests(&pod)["cpu"].to_string(), "1100m");
        assert_eq!(qos_class(&pod), "Burstable");
        assert_eq!(qos_class(&json!({"spec": {"containers": [{}]}})), "BestEffort");
        let same = json!({"cpu": "1", "memory": "1Gi"});
        let full = json!({"spec": {"containers": [{"resources": {"requests": same, "limits": same}}]}});
        assert_eq!(qos_class(&full), "Guaranteed");
    }
}
