//! Resource amounts of a pod as whole numbers, and its quality-of-service class.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

type Amounts = BTreeMap<String, Quantity>;

/// Thousandths, rounded up; an unreadable quantity counts as none, for the API server has validated it.
pub fn milli(quantity: &Quantity) -> i64 {
    machinery::quantity::Quantity::parse(&quantity.0).map_or(0, |amount| amount.milli())
}

/// Whole units, rounded up.
pub fn whole(quantity: &Quantity) -> i64 {
    machinery::quantity::Quantity::parse(&quantity.0).map_or(0, |amount| amount.value())
}

fn lookup<'a>(amounts: &'a Option<Amounts>, name: &str) -> Option<&'a Quantity> {
    amounts.as_ref()?.get(name)
}

pub fn request<'a>(resources: &'a Option<ResourceRequirements>, name: &str) -> Option<&'a Quantity> {
    lookup(&resources.as_ref()?.requests, name)
}

pub fn limit<'a>(resources: &'a Option<ResourceRequirements>, name: &str) -> Option<&'a Quantity> {
    lookup(&resources.as_ref()?.limits, name)
}

/// kubernetes/kubernetes pkg/apis/core/v1/helper/qos: which class a pod is in, counting only CPU and memory above zero.
pub fn qos_class(pod: &Pod) -> &'static str {
    let Some(spec) = &pod.spec else { return "BestEffort" };
    if let Some(resources) = spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some()) {
        return class_of(std::iter::once(resources));
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let none = ResourceRequirements::default();
    class_of(containers.map(|c| c.resources.as_ref().unwrap_or(&none)))
}

fn class_of<'a>(all: impl Iterator<Item = &'a ResourceRequirements>) -> &'static str {
    let positive = |amounts: &Option<Amounts>, name: &str| lookup(amounts, name).map(milli).filter(|m| *m > 0);
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        for name in ["cpu", "memory"] {
            let (request, limit) = (positive(&resources.requests, name), positive(&resources.limits, name));
            any |= request.is_some() || limit.is_some();
            // A missing request counts as the limit, as the API server's defaulting makes it.
            guaranteed &= limit.is_some() && request.or(limit) == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What the whole pod may use of `name` at once: `requests` or `limits` by `pick`. `None` when any container is unlimited.
///
/// kubernetes/kubernetes component-helpers resource: sidecars run beside everything that follows them.
pub fn pod_total(
    spec: &PodSpec,
    pick: impl Fn(&Option<ResourceRequirements>) -> Option<i64>,
    all_needed: bool,
) -> Option<i64> {
    if let Some(own) = pick(&spec.resources) {
        return Some(own);
    }
    let of = |c: &Container| pick(&c.resources);
    let mut sum = 0;
    for container in &spec.containers {
        match of(container) {
            Some(amount) => sum += amount,
            None if all_needed => return None,
            None => {}
        }
    }
    let (mut sidecars, mut peak) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        let amount = match of(container) {
            Some(amount) => amount,
            None if all_needed => return None,
            None => 0,
        };
        if crate::restart::is_sidecar(container) {
            sidecars += amount;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + amount);
        }
    }
    Some((sum + sidecars).max(peak))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_exact_and_rounded_up() {
        let cases =
            [("100m", 100, 1), ("1.5Gi", 1_610_612_736_000, 1_610_612_736), ("12e2", 1_200_000, 1200), ("1n", 1, 1)];
        for (text, thousandth, unit) in cases {
            let quantity = Quantity(text.into());
            assert_eq!((milli(&quantity), whole(&quantity)), (thousandth, unit), "{text}");
        }
    }
}
