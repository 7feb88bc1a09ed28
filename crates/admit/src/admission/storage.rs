//! Defaults by class (storage, ingress), protection of claims and volumes in use, and when a claim may grow.
//!
//! kubernetes/kubernetes plugin/pkg/admission/storage/*, plugin/pkg/admission/network/defaultingressclass/admission.go

use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use machinery::quantity::Quantity;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Request, View};

pub fn protect(request: &Request, _: &dyn View, new: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    let finalizer = match () {
        () if request.operation != Operation::Create => return Ok(()),
        () if request.is("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        () if request.is("", "persistentvolumes") => "kubernetes.io/pv-protection",
        () => return Ok(()),
    };
    let Some(metadata) = new.get_mut("metadata").and_then(Value::as_object_mut) else { return Ok(()) };
    let Some(list) = metadata.entry("finalizers").or_insert_with(|| json!([])).as_array_mut() else { return Ok(()) };
    if !list.iter().any(|f| f == finalizer) {
        list.push(json!(finalizer));
    }
    Ok(())
}

/// The class annotated as default: of several, the youngest, then the first by name.
fn default_of<'a>(classes: impl Iterator<Item = &'a ObjectMeta>, annotation: &str) -> Option<String> {
    let marked = classes
        .filter(|meta| meta.annotations.iter().flatten().any(|(key, value)| key == annotation && value == "true"));
    let order = |meta: &&ObjectMeta| (std::cmp::Reverse(meta.creation_timestamp.clone()), meta.name.clone());
    marked.min_by_key(order).and_then(|meta| meta.name.clone())
}

pub fn default_class(request: &Request, view: &dyn View, claim: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "persistentvolumeclaims") || request.operation != Operation::Create {
        return Ok(());
    }
    let annotated = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].is_string();
    if annotated || claim["spec"]["storageClassName"].is_string() {
        return Ok(());
    }
    let classes = view.storage_classes();
    let default = default_of(classes.iter().map(|c| &c.metadata), "storageclass.kubernetes.io/is-default-class");
    if let (Some(name), Some(spec)) = (default, claim.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.insert("storageClassName".to_owned(), json!(name));
    }
    Ok(())
}

pub fn default_ingress_class(
    request: &Request,
    view: &dyn View,
    ingress: &mut Value,
    _: Option<&Value>,
) -> Result<(), Status> {
    if !request.is("networking.k8s.io", "ingresses") || request.operation != Operation::Create {
        return Ok(());
    }
    let annotated = ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"].is_string();
    if annotated || ingress["spec"]["ingressClassName"].is_string() {
        return Ok(());
    }
    let classes = view.ingress_classes();
    let default = default_of(classes.iter().map(|c| &c.metadata), "ingressclass.kubernetes.io/is-default-class");
    if let (Some(name), Some(spec)) = (default, ingress.get_mut("spec").and_then(Value::as_object_mut)) {
        spec.insert("ingressClassName".to_owned(), json!(name));
    }
    Ok(())
}

pub fn resize(request: &Request, view: &dyn View, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let (Some(new), Some(old)) = (new, old) else { return Ok(()) };
    if !request.is("", "persistentvolumeclaims") || request.operation != Operation::Update {
        return Ok(());
    }
    let size = |claim: &Value| {
        claim["spec"]["resources"]["requests"]["storage"].as_str().and_then(|text| Quantity::from_str(text).ok())
    };
    let grows = matches!((size(old), size(new)), (Some(before), Some(after)) if after > before);
    if !grows {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err(request.forbidden("Only bound persistent volume claims can be expanded"));
    }
    let name = new["spec"]["storageClassName"].as_str().unwrap_or_default();
    let class = view.storage_classes().into_iter().find(|class| class.metadata.name.as_deref() == Some(name));
    if class.is_some_and(|class| class.allow_volume_expansion == Some(true)) {
        return Ok(());
    }
    Err(request.forbidden(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}
