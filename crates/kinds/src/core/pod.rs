//! `Pod` (v1): containers that run together on one node.

use crate::defaults::{Fields, existing, fill_map, objects, set_missing, set_unset};
use crate::kind::{Declaration, Generation, Kind, NameRule, Str, Subresource};
use crate::prepare::set_or_remove;
use crate::resources::{default_pod_requests, qos_class};
use machinery::object;
use serde_json::{Value, json};

pub static POD: Kind = Declaration {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short: &[Str::Borrowed("po")],
    categories: &[Str::Borrowed("all")],
    schema: "io.k8s.api.core.v1.Pod",
    subresources: &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Resize,
        Subresource::Status,
    ],
    generation: Generation::OfSpec,
    name_rule: NameRule::Subdomain,
    fields: &[
        Str::Borrowed("spec.nodeName"),
        Str::Borrowed("spec.restartPolicy"),
        Str::Borrowed("spec.schedulerName"),
        Str::Borrowed("spec.serviceAccountName"),
        Str::Borrowed("spec.hostNetwork"),
        Str::Borrowed("status.phase"),
        Str::Borrowed("status.podIP"),
        Str::Borrowed("status.podIPs"),
        Str::Borrowed("status.nominatedNodeName"),
    ],
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    on_create: Some(on_create),
    on_update: Some(on_update),
    on_status_update: Some(on_status_update),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/core/v1/defaults.go SetDefaults_Pod`: what holds for pods and not for templates.
fn defaults(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds < 0) {
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(1));
    }
    set_missing(spec, "enableServiceLinks", true);
    let on_host = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in ["containers", "initContainers"] {
        for container in objects(spec, list) {
            requests_from_limits(container);
            if on_host {
                objects(container, "ports").for_each(host_port);
            }
        }
    }
}

fn requests_from_limits(container: &mut Fields) {
    let Some(resources) = existing(container, "resources") else { return };
    if let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() {
        fill_map(resources, "requests", &limits);
    }
}

fn host_port(port: &mut Fields) {
    if let Some(number) = port.get("containerPort").cloned() {
        set_unset(port, "hostPort", number);
    }
}

/// A new pod is pending, says its quality of service, and when it is gated that it is.
fn on_create(pod: &mut Value) {
    default_pod_requests(pod);
    let mut status = json!({"phase": "Pending", "qosClass": qos_class(pod)});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": null,
        }]);
    }
    pod["status"] = status;
}

/// `kubernetes/kubernetes pkg/registry/core/pod/strategy.go`: an update leaves the status (and the class) as it was.
fn on_update(pod: &mut Value, old: &Value) {
    set_or_remove(pod, &["status"], old.get("status").cloned());
}

/// A status update cannot end or adopt a pod; the class of service is fixed.
fn on_status_update(pod: &mut Value, old: &Value) {
    for field in ["ownerReferences", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        set_or_remove(pod, &["metadata", field], object::at(old, &["metadata", field]).cloned());
    }
    if object::at(pod, &["status", "qosClass"]).is_none() {
        set_or_remove(pod, &["status", "qosClass"], object::at(old, &["status", "qosClass"]).cloned());
    }
}
