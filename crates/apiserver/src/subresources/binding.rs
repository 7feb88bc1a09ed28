//! `pods/binding`: the scheduler's word that a pod runs on a node.
//!
//! `kubernetes/kubernetes pkg/registry/core/pod/storage/storage.go: BindingREST.Create, setPodNodeAndMetadata`.

use kinds::Subresource;
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::{Part, seconds};
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond};

pub async fn create(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.info.verb != "create" {
        return Err(cx.unsupported());
    }
    let mut binding = codec::typed(payload, "io.k8s.api.core.v1.Binding", &[])?;
    if object::name(&binding) != cx.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
    let target = binding.pointer("/target/kind").and_then(Value::as_str).unwrap_or_default();
    check(node, target)?;
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    admission::ask(cx, Operation::Create, &mut binding).await?;
    let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
    let how = Update {
        part: Part::Sub(Subresource::Binding),
        options: &options,
        // What is written is a binding: nobody comes to own the pod's fields by it.
        tracking: Tracking::Applied,
        unconditional: true,
    };
    let written = write::update(cx, &how, |old| bound(cx, &old.value, &binding, node)).await?;
    written.ok_or_else(|| cx.not_found())?;
    respond::tree(
        cx,
        201,
        &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }),
    )
}

fn check(node: &str, kind: &str) -> Result<(), Status> {
    use machinery::field::{FieldError, FieldErrors, Path};
    let mut errors = FieldErrors::new();
    let target = Path::new("target");
    if !matches!(kind, "" | "Node") {
        errors.push(FieldError::not_supported(&target.child("kind"), kind, &["Node", "<empty>"]));
    }
    if node.is_empty() {
        errors.push(FieldError::required(&target.child("name"), ""));
    } else if matches!(kind, "" | "Node") {
        errors.invalid_each(&target.child("name"), node, machinery::names::dns1123_subdomain(node));
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Upstream does not say here that the object is invalid.
    Err(Status::unknown(errors.to_string()))
}

fn bound(cx: &Cx, pod: &Value, binding: &Value, node: &str) -> Result<Value, Status> {
    let refuse = |words: String| {
        Err(Status::conflict(&machinery::gvk::GroupResource::new("", "pods/binding"), &cx.info.name, words))
    };
    if object::is_being_deleted(pod) {
        return refuse(format!("pod {} is being deleted, cannot be assigned to a host", cx.info.name));
    }
    let wanted = object::uid(binding);
    if !wanted.is_empty() && wanted != object::uid(pod) {
        let is = object::uid(pod);
        return refuse(format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {is}"));
    }
    let present = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if !present.is_empty() {
        return refuse(format!("pod {} is already assigned to node {present:?}", cx.info.name));
    }
    if pod.pointer("/spec/schedulingGates").and_then(Value::as_array).is_some_and(|gates| !gates.is_empty()) {
        return refuse(format!("pod {} has non-empty .spec.schedulingGates", cx.info.name));
    }
    let mut new = pod.clone();
    object::put(&mut new, &["spec", "nodeName"], json!(node));
    for (name, value) in object::annotations(binding).into_iter().flatten() {
        object::annotations_mut(&mut new).insert(name.clone(), value.clone());
    }
    for (name, value) in object::labels(binding).into_iter().flatten() {
        object::labels_mut(&mut new).insert(name.clone(), value.clone());
    }
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": seconds(cx.now),
    });
    set_condition(&mut new, condition);
    Ok(new)
}

/// Puts a condition in place of the one of its type, or at the end.
pub fn set_condition(object: &mut Value, condition: Value) {
    let mut conditions = object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    match conditions.iter_mut().find(|known| known.get("type") == condition.get("type")) {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
    object::put(object, &["status", "conditions"], Value::Array(conditions));
}
