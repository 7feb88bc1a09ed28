//! NamespaceLifecycle: nothing new in a namespace that is absent or going, and three namespaces that stay.
//!
//! kubernetes/apiserver pkg/admission/plugin/namespace/lifecycle/admission.go

use machinery::gvk::GroupResource;
use machinery::status::{Cause, Status};
use serde_json::Value;

use super::{Operation, Request, View};

/// Namespaces that cannot be deleted.
const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];

pub fn lifecycle(request: &Request, view: &dyn View, _: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    let review = matches!(request.resource, "localsubjectaccessreviews");
    if request.operation != Operation::Create || request.namespace.is_empty() || review {
        return Ok(());
    }
    let Some(namespace) = view.namespace(request.namespace) else {
        let resource = GroupResource { group: "".into(), resource: "namespaces".into() };
        return Err(Status::not_found(&resource, request.namespace));
    };
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    if namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating") {
        return Ok(());
    }
    let name = request.namespace;
    let mut status = request
        .forbidden(format_args!("unable to create new content in namespace {name} because it is being terminated"));
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}

pub fn immortal(request: &Request, _: &dyn View, _: Option<&Value>, _: Option<&Value>) -> Result<(), Status> {
    let namespace = request.is("", "namespaces") && request.operation == Operation::Delete;
    if namespace && IMMORTAL.contains(&request.name) {
        return Err(request.forbidden("this namespace may not be deleted"));
    }
    Ok(())
}
