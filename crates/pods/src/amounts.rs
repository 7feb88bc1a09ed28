//! Resource amounts of a container as whole numbers, and a pod's quality-of-service class.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kinds::resources::PodResources;

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

/// Which quality-of-service class a pod is in.
pub fn qos_class(pod: &Pod) -> &'static str {
    PodResources::from(pod).qos_class()
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
