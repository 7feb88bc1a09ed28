//! `Node` (v1): a machine that runs pods.

use crate::columns::{age, column, column_of, condition, flag_or, list, map, name, named, text, text_or, wide_of};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Str, Subresource};
use crate::validate::resources::resource_value;
use crate::validate::{At, cidr};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
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
    validate: Some(validate),
    conditional_defaults: Some(defaults),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/core/validation/validation.go: ValidateNode`.
fn validate(node: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(node);
    let before = old.map(At::root);
    let changed = |path: &[&str]| before.as_ref().is_none_or(|old| old.fields(path).value != at.fields(path).value);
    if changed(&["spec", "taints"]) {
        taints(&at.fields(&["spec", "taints"]), errors);
    }
    for list in ["capacity", "allocatable"] {
        let path = Path::new("status").child(list);
        for (name, entry) in at.fields(&["status", list]).entries() {
            resource_value(name, &entry.reported_at(path.child(name)), errors);
        }
    }
    let ranges = at.fields(&["spec", "podCIDRs"]);
    if changed(&["spec", "podCIDRs"]) {
        for range in ranges.items() {
            cidr(&range.path, range.text(), &[], errors);
        }
        let families: Vec<bool> = ranges.texts().iter().map(|text| text.contains(':')).collect();
        if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
            ranges.invalid(errors, "may specify no more than one CIDR for each IP family");
        }
    }
}

fn taints(taints: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    // Upstream looks for them in the metadata, where they once were.
    let place = Path::new("metadata").child("taints");
    for (index, taint) in taints.items().enumerate() {
        let taint = taint.reported_at(place.index(index));
        let (key, value, effect) = (taint.field("key"), taint.field("value"), taint.field("effect"));
        key.invalid_each(errors, names::qualified_name(key.text()));
        let complaints = names::label_value(value.text());
        if !complaints.is_empty() {
            errors.push(FieldError::invalid(&value.path, value.text(), complaints.join(";")));
        }
        effect.required_one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        if seen.contains(&(key.text(), effect.text())) {
            let mut error = FieldError::duplicate(&taint.path, taint.value);
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
        seen.push((key.text(), effect.text()));
    }
}

/// The first pod range and the list of them say the same.
/// `kubernetes/kubernetes pkg/apis/core/v1/conversion.go: Convert_v1_NodeSpec_To_core_NodeSpec` and back.
fn defaults(node: &mut Value) {
    let Some(spec) = node.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let single = spec.get("podCIDR").and_then(Value::as_str).unwrap_or_default().to_owned();
    let first = spec.get("podCIDRs").and_then(|list| list.get(0)).and_then(Value::as_str).map(str::to_owned);
    match first {
        Some(first) if single.is_empty() => spec.insert("podCIDR".to_owned(), json!(first)),
        Some(first) if first != single => spec.insert("podCIDRs".to_owned(), json!([single])),
        None if !single.is_empty() => spec.insert("podCIDRs".to_owned(), json!([single])),
        _ => None,
    };
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Status", "string"),
        column("Roles", "string"),
        column("Age", "string"),
        column_of("Version", "string", "io.k8s.api.core.v1.NodeSystemInfo", "kubeletVersion"),
        wide_of("Internal-IP", "string", "io.k8s.api.core.v1.NodeStatus", "addresses"),
        wide_of("External-IP", "string", "io.k8s.api.core.v1.NodeStatus", "addresses"),
        wide_of("OS-Image", "string", "io.k8s.api.core.v1.NodeSystemInfo", "osImage"),
        wide_of("Kernel-Version", "string", "io.k8s.api.core.v1.NodeSystemInfo", "kernelVersion"),
        wide_of("Container-Runtime", "string", "io.k8s.api.core.v1.NodeSystemInfo", "containerRuntimeVersion"),
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
