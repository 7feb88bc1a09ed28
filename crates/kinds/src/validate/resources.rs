//! Amounts of resources: their names, and requests against limits.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go` and `pkg/apis/core/helper/helpers.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use machinery::quantity::Quantity;
use serde_json::Value;

use super::At;

const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const INTEGERS: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// An amount, or zero where there is none.
pub fn amount(value: &Value) -> Quantity {
    match value {
        Value::String(text) => Quantity::parse(text).unwrap_or_default(),
        other => Quantity::parse(&other.to_string()).unwrap_or_default(),
    }
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Of Kubernetes itself, not of a device's vendor.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// One of Kubernetes' own, short names.
pub fn is_standard(name: &str) -> bool {
    STANDARD.contains(&name)
}

/// Counted in whole numbers.
pub fn is_integer(name: &str) -> bool {
    INTEGERS.contains(&name) || is_extended(name)
}

/// May be promised more often than it is there.
pub fn overcommits(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// The name of any resource, the key of the entry `at`.
pub fn resource_name(name: &str, at: &At, errors: &mut FieldErrors) -> bool {
    let complaints = names::qualified_name(name);
    if !complaints.is_empty() {
        errors.invalid_each(&at.path, name, complaints);
        return false;
    }
    let standard = STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-");
    if !name.contains('/') && !standard {
        let detail = "must be a standard resource type or fully qualified";
        errors.push(FieldError::invalid(&at.path, name, detail));
        return false;
    }
    true
}

/// The name of a resource a container may have.
pub fn container_resource_name(name: &str, at: &At, errors: &mut FieldErrors) {
    resource_name(name, at, errors);
    let detail = if !name.contains('/') {
        match name {
            "cpu" | "memory" | "ephemeral-storage" => return,
            _ if is_huge_page(name) => return,
            _ => "must be a standard resource for containers",
        }
    } else if !is_native(name) && !is_extended(name) {
        "doesn't follow extended resource name standard"
    } else {
        return;
    };
    errors.push(FieldError::invalid(&at.path, name, detail));
}

fn pod_resource_name(name: &str, at: &At, errors: &mut FieldErrors) {
    if resource_name(name, at, errors) && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
        errors.push(FieldError::not_supported(&at.path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Not below zero, and whole where it must be.
pub fn resource_value(name: &str, at: &At, errors: &mut FieldErrors) {
    let quantity = amount(at.value);
    if quantity.sign() < 0 {
        errors.push(FieldError::invalid(&at.path, quantity.to_string(), "must be greater than or equal to 0"));
    }
    if is_integer(name) && quantity.milli() % 1000 != 0 {
        errors.push(FieldError::invalid(&at.path, quantity.to_string(), "must be an integer"));
    }
}

/// The resources of a container, or of a pod as a whole.
pub fn requirements(at: &At, of_pod: bool, claims: &[&str], errors: &mut FieldErrors) {
    let check_name = if of_pod { pod_resource_name } else { container_resource_name };
    let (limits, requests) = (at.field("limits"), at.field("requests"));
    for (name, limit) in limits.entries() {
        check_name(name, &limit, errors);
        resource_value(name, &limit, errors);
        whole_pages(name, &limit, errors);
    }
    for (name, request) in requests.entries() {
        check_name(name, &request, errors);
        resource_value(name, &request, errors);
        let asked = amount(request.value);
        match limits.value.get(name).map(amount) {
            Some(limit) if asked != limit && !overcommits(name) => {
                let detail = format!("must be equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests.path, asked.to_string(), detail));
            }
            Some(limit) if asked > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(FieldError::invalid(&requests.path, asked.to_string(), detail));
            }
            None if !overcommits(name) => {
                limits.required(errors, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
        whole_pages(name, &request, errors);
    }
    let names = || limits.entries().chain(requests.entries()).map(|(name, _)| name);
    if names().any(is_huge_page) && !names().any(|name| matches!(name, "cpu" | "memory")) {
        at.forbidden(errors, "HugePages require cpu or memory");
    }
    resource_claims(&at.field("claims"), claims, errors);
}

fn whole_pages(name: &str, at: &At, errors: &mut FieldErrors) {
    let Some(page) = name.strip_prefix("hugepages-") else { return };
    let Ok(page) = Quantity::parse(page) else { return };
    let quantity = amount(at.value);
    if page.value() > 0 && quantity.value() % page.value() != 0 {
        let detail = format!("{quantity} is not positive integer multiple of {name}");
        errors.push(FieldError::invalid(&at.path, quantity.to_string(), detail));
    }
}

fn resource_claims(at: &At, known: &[&str], errors: &mut FieldErrors) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for claim in at.items() {
        let (name, request) = (claim.field("name").text(), claim.field("request").text());
        if name.is_empty() {
            claim.required(errors, "");
            continue;
        }
        if !request.is_empty() {
            claim.field("request").invalid_each(errors, names::dns1123_label(request));
        }
        // A claim as a whole and a request of it exclude each other.
        let clash =
            |(of, asked): &(&str, &str)| *of == name && (asked.is_empty() || request.is_empty() || *asked == request);
        if seen.iter().any(clash) {
            let shown = if request.is_empty() || seen.contains(&(name, "")) {
                name.to_owned()
            } else {
                format!("{name}/{request}")
            };
            errors.push(FieldError::duplicate(&claim.path, shown));
        }
        seen.push((name, request));
        if !known.contains(&name) {
            let mut error = FieldError::not_found(&claim.path, name);
            error.detail = match known {
                [] => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                known => format!("must be one of the names in pod.spec.resourceClaims: {}", known.join(", ")),
            };
            errors.push(error);
        }
    }
}
