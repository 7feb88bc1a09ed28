//! `Node` (v1): a machine that runs pods.

use crate::columns::{age, column, condition, flag_or, list, map, name, named, text, text_or, wide};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static NODE: Kind = Declaration {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short: &[Str::Borrowed("no")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.Node",
    subresources: &[Subresource::Proxy, Subresource::Status],
    fields: &[Str::Borrowed("spec.unschedulable")],
    storage_prefix: "minions",
    unconditional_update: true,
    created_with_status: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Status", "string"),
        column("Roles", "string"),
        column("Age", "string"),
        column("Version", "string"),
        wide("Internal-IP", "string"),
        wide("External-IP", "string"),
        wide("OS-Image", "string"),
        wide("Kernel-Version", "string"),
        wide("Container-Runtime", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(status(o)),
        json!(roles(o)),
        age(o, now),
        json!(text(o, "/status/nodeInfo/kubeletVersion")),
        address(o, "InternalIP"),
        address(o, "ExternalIP"),
        text_or(o, "/status/nodeInfo/osImage", "<unknown>"),
        json!(kernel(o)),
        text_or(o, "/status/nodeInfo/containerRuntimeVersion", "<unknown>"),
    ]
}

fn status(o: &Value) -> String {
    let ready = match condition(o, "Ready") {
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = if flag_or(o, "/spec/unschedulable", false) { ",SchedulingDisabled" } else { "" };
    format!("{ready}{closed}")
}

fn roles(o: &Value) -> String {
    let labels = map(o, "/metadata/labels").into_iter().flatten();
    let mut roles: Vec<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") }
}

fn address(o: &Value, of: &str) -> Value {
    let found = list(o, "/status/addresses").iter().find(|address| address["type"] == of);
    json!(found.map_or("<none>", |address| text(address, "/address")))
}

fn kernel(o: &Value) -> String {
    let version = match text(o, "/status/nodeInfo/kernelVersion") {
        "" => "<unknown>",
        version => version,
    };
    match text(o, "/status/nodeInfo/architecture") {
        "" => version.to_owned(),
        architecture => format!("{version} ({architecture})"),
    }
}
