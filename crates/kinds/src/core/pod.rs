//! `Pod` (v1): containers that run together on one node.

use crate::columns::{
    age, column, condition, count, flag_or, human_duration, instant, list, name, named, number, text, text_or, wide_of,
};
use crate::defaults::{Fields, existing, fill_map, objects, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, NameRule, Str, Subresource};
use crate::prepare::set_or_remove;
use crate::resources::{PodResources, default_pod_requests};
use crate::validate::{At, pod_resize, pod_update};
use jiff::Timestamp;
use machinery::field::FieldErrors;
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
    validate: Some(validate),
    validate_subresource: Some(validate_subresource),
    columns: Some(COLUMNS),
    warnings: Some(warnings),
    ..Declaration::NEW
}
.build();

/// Pods are changed by controllers, who read no warnings.
fn warnings(pod: &Value, old: Option<&Value>) -> Vec<String> {
    if old.is_some() { Vec::new() } else { crate::validate::pod_warnings::pod(&crate::validate::At::root(pod)) }
}

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

fn validate(pod: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if let Some(old) = old {
        pod_update::update(pod, old, errors);
        return pod_update::status(pod, old, errors);
    }
    pod_update::metadata_and_spec(pod, errors);
    let spec = At::root(pod).field("spec");
    if !spec.field("ephemeralContainers").is_empty() {
        spec.field("ephemeralContainers").forbidden(errors, "cannot be set on create");
    }
    if !spec.field("nodeName").is_empty() && !spec.field("schedulingGates").is_empty() {
        spec.field("nodeName").forbidden(errors, "cannot be set until all schedulingGates have been cleared");
    }
}

fn validate_subresource(subresource: &Subresource, pod: &Value, old: &Value, errors: &mut FieldErrors) {
    match subresource {
        Subresource::EphemeralContainers => pod_update::ephemeral_containers(pod, old, errors),
        Subresource::Resize => pod_resize::resize(pod, old, errors),
        _ => {}
    }
}

/// A new pod is pending, says its quality of service, and when it is gated that it is.
fn on_create(pod: &mut Value) {
    default_pod_requests(pod);
    apply_label_keys(pod);
    let mut status = json!({"phase": "Pending", "qosClass": PodResources::from(&*pod).qos_class()});
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        status["conditions"] = json!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null, "lastTransitionTime": pod["metadata"]["creationTimestamp"],
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

/// `kubernetes/kubernetes pkg/registry/core/pod/strategy.go`: the label keys of spread constraints and affinity terms
/// become requirements with the pod's own values.
fn apply_label_keys(pod: &mut Value) {
    let Some(labels) = object::labels(pod).cloned() else { return };
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for constraint in objects(spec, "topologySpreadConstraints") {
        apply_to_term(constraint, &labels);
    }
    let Some(affinity) = existing(spec, "affinity") else { return };
    for name in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = existing(affinity, name) else { continue };
        for term in objects(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            apply_to_term(term, &labels);
        }
        for weighted in objects(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = existing(weighted, "podAffinityTerm") {
                apply_to_term(term, &labels);
            }
        }
    }
}

fn apply_to_term(term: &mut Fields, labels: &Fields) {
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let Some(selector) = existing(term, "labelSelector") else { return };
        for key in keys.iter().filter_map(Value::as_str) {
            let Some(value) = labels.get(key) else { continue };
            let requirement = json!({"key": key, "operator": operator, "values": [value]});
            if let Value::Array(list) = selector.entry("matchExpressions").or_insert_with(|| json!([])) {
                list.push(requirement);
            }
        }
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Ready", "string"),
        column("Status", "string"),
        column("Restarts", "string"),
        column("Age", "string"),
        wide_of("IP", "string", "io.k8s.api.core.v1.PodStatus", "podIP"),
        wide_of("Node", "string", "io.k8s.api.core.v1.PodSpec", "nodeName"),
        wide_of("Nominated Node", "string", "io.k8s.api.core.v1.PodStatus", "nominatedNodeName"),
        wide_of("Readiness Gates", "string", "io.k8s.api.core.v1.PodSpec", "readinessGates"),
    ],
    cells,
};

fn is_restartable(pod: &Value, name: &str) -> bool {
    let containers = list(pod, "/spec/initContainers").iter();
    containers.filter(|container| text(container, "/name") == name).any(|c| text(c, "/restartPolicy") == "Always")
}

/// What a pod's row says of its containers: how many are ready, why it is in its state, and its restarts.
#[derive(Default)]
struct Tally {
    ready: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Tally {
    fn count_restarts(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        self.last_restart = self.last_restart.max(instant(&status["lastState"]["terminated"]["finishedAt"]));
    }
}

/// Why a container has ended, with a prefix for init containers.
fn end_reason(prefix: &str, ended: &Value) -> String {
    match (text(ended, "/reason"), number(ended, "/signal")) {
        ("", 0) => format!("{prefix}ExitCode:{}", number(ended, "/exitCode")),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

/// Goes through the init containers up to the first that is not done; says whether there is one.
fn tally_init(pod: &Value, tally: &mut Tally, sidecars: &mut Tally) -> bool {
    for (index, status) in list(pod, "/status/initContainerStatuses").iter().enumerate() {
        tally.count_restarts(status);
        let restartable = is_restartable(pod, text(status, "/name"));
        if restartable {
            sidecars.count_restarts(status);
        }
        let ended = status.pointer("/state/terminated").filter(|ended| !ended.is_null());
        if ended.is_some_and(|ended| number(ended, "/exitCode") == 0) {
            continue;
        }
        if restartable && flag_or(status, "/started", false) {
            tally.ready += usize::from(flag_or(status, "/ready", false));
            continue;
        }
        tally.reason = match (ended, text(status, "/state/waiting/reason")) {
            (Some(ended), _) => end_reason("Init:", ended),
            (None, "" | "PodInitializing") => format!("Init:{index}/{}", count(pod, "/spec/initContainers")),
            (None, reason) => format!("Init:{reason}"),
        };
        return true;
    }
    false
}

fn tally_containers(pod: &Value, tally: &mut Tally) {
    let mut running = false;
    let mut error = String::new();
    for status in list(pod, "/status/containerStatuses").iter().rev() {
        tally.count_restarts(status);
        let ended = status.pointer("/state/terminated").filter(|ended| !ended.is_null());
        match (text(status, "/state/waiting/reason"), ended) {
            ("", Some(ended)) => {
                tally.reason = end_reason("", ended);
                if number(ended, "/exitCode") != 0 {
                    error.clone_from(&tally.reason);
                }
            }
            ("", None) => {
                if flag_or(status, "/ready", false) && status["state"]["running"].is_object() {
                    running = true;
                    tally.ready += 1;
                }
            }
            (reason, _) => tally.reason = reason.to_owned(),
        }
    }
    if tally.reason == "Completed" {
        let is_ready = condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
        match (running, is_ready, error.is_empty()) {
            (true, true, _) => tally.reason = "Running".to_owned(),
            (_, _, false) => tally.reason = error,
            (true, false, true) => tally.reason = "NotReady".to_owned(),
            (false, _, true) => {}
        }
    }
}

fn tally(pod: &Value) -> Tally {
    let phase = text(pod, "/status/phase");
    let reason = match text(pod, "/status/reason") {
        "" => phase,
        reason => reason,
    };
    let mut tally = Tally { reason: reason.to_owned(), ..Tally::default() };
    if condition(pod, "PodScheduled").is_some_and(|scheduled| scheduled["reason"] == "SchedulingGated") {
        tally.reason = "SchedulingGated".to_owned();
    }
    let mut sidecars = Tally::default();
    let initializing = tally_init(pod, &mut tally, &mut sidecars);
    let initialized = condition(pod, "Initialized").is_some_and(|initialized| initialized["status"] == "True");
    if !initializing || initialized {
        (tally.restarts, tally.last_restart) = (sidecars.restarts, sidecars.last_restart);
        tally_containers(pod, &mut tally);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null()) {
        if text(pod, "/status/reason") == "NodeLost" {
            tally.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            tally.reason = "Terminating".to_owned();
        }
    }
    tally
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let open = gates.iter().filter(|gate| {
        condition(pod, text(gate, "/conditionType")).is_some_and(|condition| condition["status"] == "True")
    });
    format!("{}/{}", open.count(), gates.len())
}

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let tally = tally(o);
    let sidecars = list(o, "/spec/initContainers").iter().filter(|c| text(c, "/restartPolicy") == "Always").count();
    let restarts = match tally.last_restart.filter(|_| tally.restarts != 0) {
        Some(last) => {
            format!("{} ({} ago)", tally.restarts, human_duration(now.as_second() - last.as_second()))
        }
        None => tally.restarts.to_string(),
    };
    vec![
        name(o),
        json!(format!("{}/{}", tally.ready, count(o, "/spec/containers") + sidecars)),
        json!(tally.reason),
        json!(restarts),
        age(o, now),
        text_or(o, "/status/podIPs/0/ip", "<none>"),
        text_or(o, "/spec/nodeName", "<none>"),
        text_or(o, "/status/nominatedNodeName", "<none>"),
        json!(readiness_gates(o)),
    ]
}
