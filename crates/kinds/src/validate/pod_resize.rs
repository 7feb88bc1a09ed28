//! What a resize of a running pod may change: the CPU and memory of its containers and of itself.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go ValidatePodResize`: the rules.

use machinery::field::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value};

use super::At;
use super::pod_update::{MIRROR, metadata_and_spec};
use crate::prepare::set_or_remove;
use crate::resources::PodResources;

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// A resized pod against what it was.
pub fn resize(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let refusal = match () {
        () if machinery::object::annotation(old, MIRROR).is_some() => "static pods cannot be resized",
        () if old.pointer("/spec/os/name").is_some_and(|os| os == "windows") => "windows pods cannot be resized",
        () => return resize_of_container_pod(new, old, errors),
    };
    errors.0.clear();
    errors.push(FieldError::forbidden(&Path::new(""), refusal));
}

fn resize_of_container_pod(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let before = errors.0.len();
    metadata_and_spec(new, errors);
    let (spec, old_spec) = (At::root(new).field("spec"), At::root(old).field("spec"));
    let class =
        old.pointer("/status/qosClass").and_then(Value::as_str).unwrap_or_else(|| PodResources::from(old).qos_class());
    if class != PodResources::from(new).qos_class() {
        let shown = new.pointer("/status/qosClass").and_then(Value::as_str).unwrap_or_default();
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&spec.path, shown, detail));
    }
    if !node_can_resize(old) {
        spec.forbidden(errors, "Pod running on node without support for resize");
    }
    let mut kept = spec.value.clone();
    pod_level(&spec, &old_spec, &mut kept, errors);
    if !same_containers(&spec, &old_spec, errors) {
        return;
    }
    for list in LISTS {
        for (container, old) in spec.field(list).items().zip(old_spec.field(list).items()) {
            let (now, was) = (container.field("resources"), old.field("resources"));
            nothing_removed(
                &now,
                &was,
                ["resource requests cannot be removed", "resource limits cannot be removed"],
                errors,
            );
        }
        only_cpu_and_memory(list, &spec, &old_spec, &mut kept, errors);
    }
    if errors.0.len() == before && differ(&kept, old_spec.value) {
        spec.forbidden(errors, "only cpu and memory resources are mutable");
    }
}

/// Whether the kubelet of a running pod says what its containers have, as one that can resize them does.
fn node_can_resize(pod: &Value) -> bool {
    let statuses = pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten();
    let running = statuses.into_iter().find(|status| status.pointer("/state/running").is_some_and(|r| !r.is_null()));
    running.is_none_or(|status| !status["resources"].is_null())
}

fn pod_level(spec: &At, old: &At, kept: &mut Value, errors: &mut FieldErrors) {
    let (now, was) = (spec.field("resources"), old.field("resources"));
    let says = |resources: &At| !resources.field("requests").is_empty() || !resources.field("limits").is_empty();
    if !says(&now) && !says(&was) {
        return;
    }
    if was.is_set() && !now.is_set() {
        return now.forbidden(errors, "pod-level resources cannot be removed");
    }
    let told = ["pod-level resource requests cannot be removed", "pod-level resource limits cannot be removed"];
    nothing_removed(&now, &was, told, errors);
    take_cpu_and_memory(&mut kept["resources"], was.value);
    if differ(&kept["resources"], was.value) {
        spec.forbidden(errors, "only cpu and memory resources are mutable at pod-level");
    }
}

fn nothing_removed(now: &At, was: &At, told: [&str; 2], errors: &mut FieldErrors) {
    for (list, told) in ["requests", "limits"].into_iter().zip(told) {
        let (now, was) = (now.field(list), was.field(list));
        if was.entries().any(|(name, _)| now.value.get(name).is_none()) {
            now.forbidden(errors, told);
        }
    }
}

/// Containers may not be added, removed, renamed or put in another order.
fn same_containers(spec: &At, old: &At, errors: &mut FieldErrors) -> bool {
    let before = errors.0.len();
    for list in LISTS {
        let (now, was) = (spec.field(list), old.field(list));
        if now.count() != was.count() {
            now.forbidden(errors, format!("{list} may not be added or removed on resize"));
            continue;
        }
        for (container, old) in now.items().zip(was.items()) {
            let name = container.field("name");
            if name.value != old.field("name").value {
                name.forbidden(errors, format!("{list} may not be renamed or reordered on resize"));
            }
        }
    }
    errors.0.len() == before
}

fn only_cpu_and_memory(list: &str, spec: &At, old: &At, kept: &mut Value, errors: &mut FieldErrors) {
    let Some(containers) = kept.get_mut(list).and_then(Value::as_array_mut) else { return };
    for ((container, old), at) in containers.iter_mut().zip(old.field(list).items()).zip(spec.field(list).items()) {
        let modified = differ(container, old.value);
        if let Some(fields) = container.as_object_mut() {
            let resources = fields.entry("resources").or_insert_with(|| Value::Object(Map::new()));
            take_cpu_and_memory(resources, old.field("resources").value);
        }
        if list == "containers" {
            if differ(container, old.value) {
                spec.forbidden(errors, "only cpu and memory resources are mutable");
            }
            continue;
        }
        if differ(container, old.value) {
            at.forbidden(errors, "only cpu and memory resources for init or sidecar containers are mutable");
        }
        let sidecar = container["restartPolicy"] == "Always";
        let restarts =
            at.field("resizePolicy").items().any(|policy| policy.field("restartPolicy").is("RestartContainer"));
        if modified && !sidecar && restarts {
            let told = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
            at.forbidden(errors, told);
        }
    }
}

/// Puts back what may change, so that only the rest can differ.
fn take_cpu_and_memory(resources: &mut Value, old: &Value) {
    for list in ["requests", "limits"] {
        for name in ["cpu", "memory"] {
            set_or_remove(resources, &[list, name], old.pointer(&format!("/{list}/{name}")).cloned());
        }
    }
}

/// Whether two values are not the same; an absent or empty map or list is as none, and an amount is its number.
fn differ(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one_map), Value::Object(other_map)) => {
            let keys = one_map.keys().chain(other_map.keys());
            keys.into_iter().any(|key| differ(&one[key], &other[key]))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() != other.len() || one.iter().zip(other).any(|(one, other)| differ(one, other))
        }
        (Value::Object(map), Value::Null) | (Value::Null, Value::Object(map)) => {
            map.values().any(|v| differ(v, &Value::Null))
        }
        (Value::Array(list), Value::Null) | (Value::Null, Value::Array(list)) => !list.is_empty(),
        _ => one != other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"qosClass": "Burstable"}, "spec": {
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
            "containers": [{"name": "c", "image": "i", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]}})
    }

    fn told(change: impl Fn(&mut Value)) -> Vec<String> {
        let (old, mut new) = (pod(), pod());
        change(&mut new);
        let mut errors = FieldErrors::new();
        resize(&new, &old, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn cpu_and_memory_change_and_nothing_else() {
        let requests = |new: &mut Value, value: Value| new["spec"]["containers"][0]["resources"]["requests"] = value;
        assert_eq!(told(|new| requests(new, json!({"cpu": "2", "memory": "1Gi"}))), [""; 0]);
        let removed = "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed";
        assert_eq!(told(|new| requests(new, json!({"cpu": "2"}))), [removed]);
        let other = "spec: Forbidden: only cpu and memory resources are mutable";
        assert_eq!(
            told(|new| requests(new, json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}))),
            [other]
        );
        assert_eq!(told(|new| new["spec"]["containers"][0]["image"] = json!("j")), [other]);
        let class = "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing";
        let same = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        assert_eq!(told(|new| new["spec"]["containers"][0]["resources"] = same.clone()), [class]);
        let renamed = "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize";
        assert_eq!(told(|new| new["spec"]["containers"][0]["name"] = json!("d")), [renamed]);
    }

    #[test]
    fn static_pods_and_old_kubelets_do_not_resize() {
        let with = |change: fn(&mut Value)| {
            let (mut old, new) = (pod(), pod());
            change(&mut old);
            let mut errors = FieldErrors::new();
            resize(&new, &old, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let refused = with(|old| old["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"}));
        assert_eq!(refused, [": Forbidden: static pods cannot be resized"]);
        let running = json!([{"name": "c", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]);
        let mut old = pod();
        old["status"]["containerStatuses"] = running;
        let mut errors = FieldErrors::new();
        resize(&pod(), &old, &mut errors);
        assert_eq!(errors.to_string(), "spec: Forbidden: Pod running on node without support for resize");
    }
}
