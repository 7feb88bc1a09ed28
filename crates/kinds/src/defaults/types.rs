//! Defaults of the remaining shared types.

use serde_json::{Map, Value, json};

use super::{Fields, Rule, existing, fill_map, is_missing, set_missing, set_unset, text_of};

pub(super) fn rule(package: &str, name: &str) -> Option<Rule> {
    Some(match (package, name) {
        ("io.k8s.api.core.v1", "PersistentVolumeClaimSpec") => |fields| set_missing(fields, "volumeMode", "Filesystem"),
        ("io.k8s.api.core.v1", "PersistentVolumeClaim") => |fields| phase(fields, "Pending"),
        ("io.k8s.api.core.v1", "LimitRangeItem") => limit_range_item,
        ("io.k8s.api.core.v1", "PodStatus") => pod_status,
        ("io.k8s.api.core.v1", "NodeStatus") => node_status,
        ("io.k8s.api.core.v1", "NamespaceStatus") => |fields| set_unset(fields, "phase", "Active"),
        ("io.k8s.api.batch.v1", "PodFailurePolicyOnPodConditionsPattern") => {
            |fields| set_unset(fields, "status", "True")
        }
        ("io.k8s.api.networking.v1", "NetworkPolicyPort") => |fields| set_missing(fields, "protocol", "TCP"),
        ("io.k8s.api.discovery.v1", "EndpointPort") => endpoint_port,
        ("io.k8s.api.rbac.v1", "Subject") => subject,
        ("io.k8s.api.rbac.v1", "RoleRef") => |fields| set_unset(fields, "apiGroup", "rbac.authorization.k8s.io"),
        (_, "ServiceReference") => |fields| set_missing(fields, "port", 443),
        ("io.k8s.api.admissionregistration.v1", other) => return admission(other),
        ("io.k8s.api.flowcontrol.v1", other) => return flow_control(other),
        ("io.k8s.api.resource.v1", "ExactDeviceRequest" | "DeviceSubRequest") => device_request,
        ("io.k8s.api.authentication.v1", "TokenRequestSpec") => |fields| set_missing(fields, "expirationSeconds", 3600),
        ("io.k8s.api.autoscaling.v2", "HorizontalPodAutoscalerBehavior") => behavior,
        _ => return None,
    })
}

fn admission(name: &str) -> Option<Rule> {
    Some(match name {
        "ValidatingWebhook" => webhook,
        "MutatingWebhook" => |fields| {
            webhook(fields);
            set_missing(fields, "reinvocationPolicy", "Never");
        },
        "RuleWithOperations" | "NamedRuleWithOperations" => |fields| set_missing(fields, "scope", "*"),
        "ValidatingAdmissionPolicySpec" | "MutatingAdmissionPolicySpec" => {
            |fields| set_missing(fields, "failurePolicy", "Fail")
        }
        "MatchResources" => match_resources,
        _ => return None,
    })
}

fn webhook(hook: &mut Fields) {
    set_missing(hook, "failurePolicy", "Fail");
    match_resources(hook);
    set_missing(hook, "timeoutSeconds", 10);
}

fn match_resources(fields: &mut Fields) {
    set_missing(fields, "matchPolicy", "Equivalent");
    set_missing(fields, "namespaceSelector", Map::new());
    set_missing(fields, "objectSelector", Map::new());
}

fn flow_control(name: &str) -> Option<Rule> {
    Some(match name {
        "FlowSchemaSpec" => |fields| set_unset(fields, "matchingPrecedence", 1000),
        "ExemptPriorityLevelConfiguration" => |fields| {
            set_missing(fields, "nominalConcurrencyShares", 0);
            set_missing(fields, "lendablePercent", 0);
        },
        "LimitedPriorityLevelConfiguration" => |fields| {
            set_missing(fields, "nominalConcurrencyShares", 30);
            set_missing(fields, "lendablePercent", 0);
        },
        "QueuingConfiguration" => |fields| {
            set_unset(fields, "handSize", 8);
            set_unset(fields, "queues", 64);
            set_unset(fields, "queueLengthLimit", 50);
        },
        _ => return None,
    })
}

fn phase(fields: &mut Fields, phase: &str) {
    if let Some(status) = super::nested(fields, "status") {
        set_unset(status, "phase", phase);
    }
}

fn limit_range_item(item: &mut Fields) {
    if text_of(item, "type") != "Container" {
        return;
    }
    let map = |item: &Fields, name: &str| item.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let max = map(item, "max");
    fill_map(item, "default", &max);
    let default = map(item, "default");
    fill_map(item, "defaultRequest", &default);
    let min = map(item, "min");
    fill_map(item, "defaultRequest", &min);
}

/// Keeps `podIP` and `podIPs` in step; the single one wins.
fn pod_status(status: &mut Fields) {
    let single = text_of(status, "podIP").to_owned();
    let first = status.get("podIPs").and_then(|ips| ips.get(0)?.get("ip")?.as_str()).unwrap_or_default().to_owned();
    match (single.is_empty(), first.is_empty()) {
        (true, false) => {
            status.insert("podIP".to_owned(), Value::from(first));
        }
        (false, _) if first != single => {
            status.insert("podIPs".to_owned(), json!([{"ip": single}]));
        }
        _ => {}
    }
}

fn node_status(status: &mut Fields) {
    if is_missing(status, "allocatable")
        && let Some(capacity) = status.get("capacity").cloned().filter(|capacity| !capacity.is_null())
    {
        status.insert("allocatable".to_owned(), capacity);
    }
}

fn endpoint_port(port: &mut Fields) {
    set_missing(port, "name", "");
    set_missing(port, "protocol", "TCP");
}

fn subject(subject: &mut Fields) {
    if matches!(text_of(subject, "kind"), "User" | "Group") {
        set_unset(subject, "apiGroup", "rbac.authorization.k8s.io");
    }
}

fn device_request(request: &mut Fields) {
    set_unset(request, "allocationMode", "ExactCount");
    if text_of(request, "allocationMode") == "ExactCount" {
        set_unset(request, "count", 1);
    }
}

/// What a missing part of a scaling rule means, once any behaviour is given.
fn behavior(behavior: &mut Fields) {
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    for (direction, policies, window) in
        [("scaleUp", json!([pods, percent.clone()]), Some(0)), ("scaleDown", json!([percent]), None)]
    {
        super::nested(behavior, direction);
        if let Some(rules) = existing(behavior, direction) {
            set_missing(rules, "selectPolicy", "Max");
            set_missing(rules, "policies", policies);
            if let Some(seconds) = window {
                set_missing(rules, "stabilizationWindowSeconds", seconds);
            }
        }
    }
}
