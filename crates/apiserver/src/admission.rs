//! Where admission plugins are asked: mutating ones before validation, validating ones after.

use machinery::object;
use machinery::status::Status;
use serde_json::Value;

use crate::context::Cx;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// Lets the mutating plugins change the object.
pub async fn mutate(
    cx: &Cx,
    operation: Operation,
    new: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<(), Status> {
    let _ = (old, dry_run);
    if operation == Operation::Create {
        namespace_lifecycle(cx, new).await?;
    }
    Ok(())
}

/// Asks the validating plugins.
pub async fn validate(
    cx: &Cx,
    operation: Operation,
    new: Option<&Value>,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<(), Status> {
    let _ = (new, old, dry_run);
    let immortal = matches!(cx.info.name.as_str(), "default" | "kube-system" | "kube-public");
    if operation == Operation::Delete && cx.kind.group.is_empty() && cx.kind.names.kind == "Namespace" && immortal {
        return Err(Status::forbidden(&cx.resource(), &cx.info.name, "this namespace may not be deleted"));
    }
    Ok(())
}

/// `kubernetes/apiserver pkg/admission/plugin/namespace/lifecycle`: nothing new in a namespace that is absent or going.
async fn namespace_lifecycle(cx: &Cx, new: &Value) -> Result<(), Status> {
    if !cx.kind.namespaced() {
        return Ok(());
    }
    let Some(kind) = kinds::by_resource("", "v1", "namespaces") else { return Ok(()) };
    let name = &cx.info.namespace;
    let found = cx.server.registry.get(kind, "", name).await?;
    let namespace = found.ok_or_else(|| Status::not_found(&crate::registry::group_resource(kind), name))?;
    let access_review = cx.kind.storage_prefix.is_empty();
    if !object::is_being_deleted(&namespace.value) || access_review {
        return Ok(());
    }
    let words = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = Status::forbidden(&cx.resource(), object::name(new), words);
    if let Some(details) = &mut status.details {
        details.causes.push(machinery::status::Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}
