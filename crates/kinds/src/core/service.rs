//! `Service` (v1): one address and name before a set of pods.

use crate::columns::{
    age, column, column_of, join_texts, labels, list, load_balancer, name, named, number, text, text_or, wide_of,
};
use crate::defaults::{Fields, nested, objects, set_missing, set_unset, text_of};
use crate::facts::is_zero;
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Str, Subresource};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::{Value, json};

pub static SERVICE: Kind = Declaration {
    kind: "Service",
    plural: "services",
    singular: "service",
    short: &[Str::Borrowed("svc")],
    categories: &[Str::Borrowed("all")],
    schema: "io.k8s.api.core.v1.Service",
    subresources: &[Subresource::Proxy, Subresource::Status],
    name_rule: NameRule::Label,
    fields: &[Str::Borrowed("spec.clusterIP"), Str::Borrowed("spec.type")],
    storage_prefix: "services/specs",
    unconditional_update: true,
    create_on_update: true,
    conditional_defaults: Some(defaults),
    on_update: Some(on_update),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(service: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    super::service_rules::validate(service, old, errors);
}

/// Three hours: how long a client stays with its endpoint under `ClientIP` affinity.
const AFFINITY_SECONDS: i64 = 10800;

fn defaults(service: &mut Value) {
    let Some(spec) = service.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    affinity(spec);
    set_unset(spec, "type", "ClusterIP");
    for port in objects(spec, "ports") {
        set_unset(port, "protocol", "TCP");
        if let Some(number) = port.get("port").cloned() {
            set_unset(port, "targetPort", number);
        }
    }
    let of = text_of(spec, "type").to_owned();
    let has_external_ips = spec.get("externalIPs").is_some_and(|ips| !is_zero(ips));
    if matches!(&*of, "NodePort" | "LoadBalancer") || (of == "ClusterIP" && has_external_ips) {
        set_unset(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(&*of, "NodePort" | "LoadBalancer" | "ClusterIP") {
        set_missing(spec, "internalTrafficPolicy", "Cluster");
    }
    if of == "LoadBalancer" {
        set_missing(spec, "allocateLoadBalancerNodePorts", true);
        ip_modes(service);
    }
}

fn affinity(spec: &mut Fields) {
    set_unset(spec, "sessionAffinity", "None");
    match text_of(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            if let Some(client) = nested(spec, "sessionAffinityConfig").and_then(|config| nested(config, "clientIP")) {
                set_missing(client, "timeoutSeconds", AFFINITY_SECONDS);
            }
        }
        _ => {}
    }
}

fn ip_modes(service: &mut Value) {
    let Some(entries) = service.pointer_mut("/status/loadBalancer/ingress").and_then(Value::as_array_mut) else {
        return;
    };
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        if !text_of(entry, "ip").is_empty() {
            set_missing(entry, "ipMode", "VIP");
        }
    }
}

/// `kubernetes/kubernetes pkg/registry/core/service/strategy.go dropTypeDependentFields`: a change of type drops what
/// the old type had been given and the user did not touch.
fn on_update(service: &mut Value, old: &Value) {
    let same = |service: &Value, field: &str| service["spec"].get(field) == old["spec"].get(field);
    let of = |service: &Value| service["spec"]["type"].as_str().unwrap_or_default().to_owned();
    let needs_ip = |of: &str| matches!(of, "ClusterIP" | "NodePort" | "LoadBalancer");
    let needs_port = |of: &str| matches!(of, "NodePort" | "LoadBalancer");
    let (new_type, old_type) = (of(service), of(old));
    let mut drop = |fields: &[&str]| {
        if fields.iter().all(|field| same(service, field))
            && let Some(spec) = service["spec"].as_object_mut()
        {
            fields.iter().for_each(|field| {
                spec.remove(*field);
            });
        }
    };
    if needs_ip(&old_type) && !needs_ip(&new_type) {
        drop(&["clusterIP", "clusterIPs"]);
        drop(&["ipFamilies"]);
        drop(&["ipFamilyPolicy"]);
    }
    if old_type == "LoadBalancer" && new_type != "LoadBalancer" {
        drop(&["allocateLoadBalancerNodePorts"]);
        drop(&["loadBalancerClass"]);
    }
    let health_check =
        |of: &str, service: &Value| of == "LoadBalancer" && service["spec"]["externalTrafficPolicy"] == "Local";
    if health_check(&old_type, old) && new_type != "LoadBalancer" {
        drop(&["healthCheckNodePort"]);
    }
    if needs_port(&old_type) && !needs_port(&new_type) {
        drop(&["externalTrafficPolicy"]);
        drop_node_ports(service, old);
    }
}

fn drop_node_ports(service: &mut Value, old: &Value) {
    let old_ports: Vec<Value> =
        old["spec"]["ports"].as_array().into_iter().flatten().map(|port| json!(port["nodePort"])).collect();
    let Some(ports) = service["spec"]["ports"].as_array_mut() else { return };
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        if port.get("nodePort").is_some_and(|number| old_ports.contains(number)) {
            port.remove("nodePort");
        }
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Type", "string", "io.k8s.api.core.v1.ServiceSpec", "type"),
        column_of("Cluster-IP", "string", "io.k8s.api.core.v1.ServiceSpec", "clusterIP"),
        column_of("External-IP", "string", "io.k8s.api.core.v1.ServiceSpec", "externalIPs"),
        column_of("Port(s)", "string", "io.k8s.api.core.v1.ServiceSpec", "ports"),
        column("Age", "string"),
        wide_of("Selector", "string", "io.k8s.api.core.v1.ServiceSpec", "selector"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(text(o, "/spec/type")),
        text_or(o, "/spec/clusterIPs/0", "<none>"),
        json!(external_ip(o)),
        json!(ports(o)),
        age(o, now),
        labels(o, "/spec/selector"),
    ]
}

fn external_ip(o: &Value) -> String {
    let own = join_texts(list(o, "/spec/externalIPs"), ",");
    match text(o, "/spec/type") {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => own,
        "LoadBalancer" => match (load_balancer(o), own) {
            (given, own) if given.is_empty() && own.is_empty() => "<pending>".to_owned(),
            (given, own) if given.is_empty() => own,
            (given, own) if own.is_empty() => given,
            (given, own) => format!("{given},{own}"),
        },
        "ExternalName" => text(o, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn ports(o: &Value) -> String {
    let ports: Vec<String> = list(o, "/spec/ports")
        .iter()
        .map(|port| match (number(port, "/port"), number(port, "/nodePort"), text(port, "/protocol")) {
            (number, node, protocol) if node > 0 => format!("{number}:{node}/{protocol}"),
            (number, _, protocol) => format!("{number}/{protocol}"),
        })
        .collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}
