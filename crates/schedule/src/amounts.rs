//! Amounts of resources as the scheduler counts them: CPU in thousandths of a core, everything else in whole units,
//! requests rounded up (kubernetes/kubernetes pkg/scheduler/framework/types.go, Resource).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kinds::resources::{self, PodResources};
use machinery::quantity::{Format, Quantity as Parsed};

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
        Self::of_parsed(quantities.iter().filter_map(|(name, text)| Some((name, Parsed::parse(&text.0).ok()?))))
    }

    fn of_parsed<'a>(quantities: impl Iterator<Item = (&'a String, Parsed)>) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in quantities {
            match name.as_str() {
                "cpu" => amounts.cpu_milli = quantity.milli(),
                "memory" => amounts.memory_bytes = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage_bytes = quantity.value(),
                "pods" => {}
                other => drop(amounts.other.insert(other.to_string(), quantity.value())),
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

    pub fn is_zero(&self) -> bool {
        self.cpu_milli == 0
            && self.memory_bytes == 0
            && self.ephemeral_storage_bytes == 0
            && self.other.values().all(|amount| *amount == 0)
    }
}

/// Whole units, rounded up. What validation has let through parses; what does not asks for nothing.
pub fn units(quantity: &Quantity) -> i64 {
    Parsed::parse(&quantity.0).map_or(0, |quantity| quantity.value())
}

/// What a pod asks of a node, and what it counts for in scores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub requests: Amounts,
    pub for_scores: Amounts,
}

/// What one pod asks for, by the rules of `kinds::resources`.
pub fn asked(pod: &Pod) -> Asked {
    let read = |amounts: resources::Amounts| Amounts::of_parsed(amounts.iter().map(|(name, amount)| (name, *amount)));
    let for_scores = PodResources::from(pod).requests_adjusted(|requests| {
        for (name, unasked) in [
            ("cpu", Parsed::from_milli(UNASKED_CPU_MILLI, Format::DecimalSi)),
            ("memory", Parsed::new(UNASKED_MEMORY_BYTES, Format::BinarySi)),
        ] {
            if requests.get(name).is_none_or(Parsed::is_zero) {
                requests.insert(name.to_owned(), unasked);
            }
        }
    });
    Asked { requests: read(PodResources::counted(pod).requests), for_scores: read(for_scores) }
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
