//! DefaultTolerationSeconds: how long a pod stays on a node that is not ready. TaintNodesByCondition: a new node is not
//! ready until it says so.
//!
//! kubernetes/kubernetes plugin/pkg/admission/defaulttolerationseconds/admission.go, plugin/pkg/admission/nodetaint/admission.go

use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Request, View};

const SECONDS: i64 = 300;

pub fn default_seconds(request: &Request, _: &dyn View, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "pods") || !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let tolerations = spec.entry("tolerations").or_insert_with(|| json!([]));
    if tolerations.is_null() {
        *tolerations = json!([]);
    }
    let Some(list) = tolerations.as_array_mut() else { return Ok(()) };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = list.iter().any(|t| {
            let text = |field: &str| t.get(field).and_then(Value::as_str).unwrap_or_default();
            matches!(text("key"), "") && text("operator") == "Exists" && matches!(text("effect"), "" | "NoExecute")
                || text("key") == key && matches!(text("effect"), "" | "NoExecute")
        });
        if !tolerated {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}));
        }
    }
    if list.is_empty() {
        spec.remove("tolerations");
    }
    Ok(())
}

pub fn taint_new_node(request: &Request, _: &dyn View, node: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "nodes") || request.operation != Operation::Create {
        return Ok(());
    }
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let Some(node) = node.as_object_mut() else { return Ok(()) };
    let Some(spec) = node.entry("spec").or_insert_with(|| json!({})).as_object_mut() else { return Ok(()) };
    let Some(taints) = spec.entry("taints").or_insert_with(|| json!([])).as_array_mut() else { return Ok(()) };
    if !taints.iter().any(|t| t["key"] == taint["key"] && t["effect"] == taint["effect"]) {
        taints.push(taint);
    }
    Ok(())
}
