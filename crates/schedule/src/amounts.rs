//! Amounts of resources as the scheduler counts them: CPU in thousandths of a core, everything else in whole units,
//! requests rounded up (kubernetes/kubernetes pkg/scheduler/framework/types.go, Resource).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub type Quantities = BTreeMap<String, Quantity>;

/// kubernetes/kubernetes pkg/scheduler/util/pod_resources.go: what a container without requests counts for in scores.
const UNASKED_CPU_MILLI: i64 = 100;
const UNASKED_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_storage_bytes: i64,
    /// Extended resources, huge pages and volume attach limits.
    pub other: BTreeMap<String, i64>,
}

impl Amounts {
    pub fn of(quantities: &Quantities) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in quantities {
            match name.as_str() {
                "cpu" => amounts.cpu_milli = milli(quantity),
                "memory" => amounts.memory_bytes = units(quantity),
                "ephemeral-storage" => amounts.ephemeral_storage_bytes = units(quantity),
                "pods" => {}
                other => drop(amounts.other.insert(other.to_string(), units(quantity))),
            }
        }
        amounts
    }

    fn merge(&mut self, other: &Self, by: fn(i64, i64) -> i64) {
        self.cpu_milli = by(self.cpu_milli, other.cpu_milli);
        self.memory_bytes = by(self.memory_bytes, other.memory_bytes);
        self.ephemeral_storage_bytes = by(self.ephemeral_storage_bytes, other.ephemeral_storage_bytes);
        for (name, amount) in &other.other {
            let mine = self.other.entry(name.clone()).or_insert(0);
            *mine = by(*mine, *amount);
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
        self.other.retain(|_, amount| *amount != 0);
    }

    fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.add(other);
        sum
    }

    pub fn is_zero(&self) -> bool {
        self.cpu_milli == 0
            && self.memory_bytes == 0
            && self.ephemeral_storage_bytes == 0
            && self.other.values().all(|amount| *amount == 0)
    }

    fn for_scores(mut self) -> Self {
        if self.cpu_milli == 0 {
            self.cpu_milli = UNASKED_CPU_MILLI;
        }
        if self.memory_bytes == 0 {
            self.memory_bytes = UNASKED_MEMORY_BYTES;
        }
        self
    }
}

/// Whole units, rounded up. What validation has let through parses; what does not asks for nothing.
pub fn units(quantity: &Quantity) -> i64 {
    parsed(quantity).map_or(0, |quantity| quantity.value())
}

/// Thousandths, rounded up.
fn milli(quantity: &Quantity) -> i64 {
    parsed(quantity).map_or(0, |quantity| quantity.milli())
}

fn parsed(quantity: &Quantity) -> Option<machinery::quantity::Quantity> {
    machinery::quantity::Quantity::parse(&quantity.0).ok()
}

/// What a pod asks of a node, and what it counts for in scores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub requests: Amounts,
    pub for_scores: Amounts,
}

/// kubernetes/kubernetes staging component-helpers/resource/helpers.go: containers run together; an init container runs
/// with the sidecars that were started before it; overhead comes on top; requests of the pod as a whole take the place of
/// the containers' sum.
pub fn asked(pod: &Pod) -> Asked {
    Asked { requests: total(pod, &|amounts| amounts), for_scores: total(pod, &Amounts::for_scores) }
}

fn total(pod: &Pod, adjust: &dyn Fn(Amounts) -> Amounts) -> Amounts {
    let Some(spec) = &pod.spec else { return Amounts::default() };
    let of = |container: &Container| {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        adjust(requests.map(Amounts::of).unwrap_or_default())
    };
    let mut sum = Amounts::default();
    spec.containers.iter().for_each(|container| sum.add(&of(container)));
    let mut sidecars = Amounts::default();
    let mut highest = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&of(container));
            highest.raise_to(&sidecars);
        } else {
            highest.raise_to(&sidecars.plus(&of(container)));
        }
    }
    sum.add(&sidecars);
    sum.raise_to(&highest);
    if let Some(whole) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        let whole_amounts = Amounts::of(whole);
        for name in whole.keys() {
            match name.as_str() {
                "cpu" => sum.cpu_milli = whole_amounts.cpu_milli,
                "memory" => sum.memory_bytes = whole_amounts.memory_bytes,
                "ephemeral-storage" => sum.ephemeral_storage_bytes = whole_amounts.ephemeral_storage_bytes,
                other => {
                    let amount = whole_amounts.other.get(other).copied().unwrap_or(0);
                    sum.other.insert(other.to_string(), amount);
                }
            }
        }
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Amounts::of(overhead));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(init: serde_json::Value, containers: serde_json::Value) -> Amounts {
        let pod = serde_json::json!({ "metadata": {}, "spec": { "initContainers": init, "containers": containers } });
        asked(&serde_json::from_value(pod).unwrap()).requests
    }

    fn container(cpu: &str) -> serde_json::Value {
        serde_json::json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } })
    }

    fn sidecar(cpu: &str) -> serde_json::Value {
        let mut container = container(cpu);
        container["restartPolicy"] = "Always".into();
        container
    }

    #[test]
    fn containers_add_up_and_init_containers_count_at_their_highest() {
        let apps = serde_json::json!([container("1"), container("500m")]);
        assert_eq!(of(serde_json::json!([]), apps.clone()).cpu_milli, 1500);
        assert_eq!(of(serde_json::json!([container("1"), container("3")]), apps.clone()).cpu_milli, 3000);
        assert_eq!(of(serde_json::json!([sidecar("1"), container("2")]), apps.clone()).cpu_milli, 3000);
        assert_eq!(of(serde_json::json!([container("2"), sidecar("1")]), apps).cpu_milli, 2500);
    }

    #[test]
    fn amounts_are_rounded_up() {
        let quantities = [("cpu", "1u"), ("memory", "1.5Ki"), ("example.com/gpu", "2")];
        let quantities = quantities.map(|(name, text)| (name.to_string(), Quantity(text.to_string()))).into();
        let amounts = Amounts::of(&quantities);
        assert_eq!((amounts.cpu_milli, amounts.memory_bytes, amounts.other["example.com/gpu"]), (1, 1536, 2));
    }
}
