//! A request's objects in the version that a webhook or policy named.

use std::sync::Arc;

use admit::hooks::Subject;
use kinds::Kind;
use kinds::kind::SchemaSource;
use machinery::decode;
use machinery::gvk::GroupVersionKind;
use machinery::status::Status;
use serde_json::Value;

use super::Objects;
use crate::context::Cx;
use crate::conversion;
use crate::strategy;

/// The kind of the catalog by its group, version and name.
pub fn kind_in(cx: &Cx, of: &GroupVersionKind) -> Result<Arc<Kind>, Status> {
    let catalog = cx.server.catalog.load();
    let found = catalog.by_kind(&of.group, &of.version, &of.kind).cloned();
    found.ok_or_else(|| Status::internal(format!("unable to convert to {of}: unknown kind")))
}

/// An object of the request in another version of its kind.
pub async fn convert(cx: &Cx, subject: &Subject<'_>, to: &GroupVersionKind, value: &Value) -> Result<Value, Status> {
    if *to == subject.kind {
        return Ok(value.clone());
    }
    let (from, to) = (kind_in(cx, &subject.kind)?, kind_in(cx, to)?);
    conversion::between(&cx.server, &from, &to, value.clone()).await
}

/// Both of them.
pub async fn both(
    cx: &Cx,
    subject: &Subject<'_>,
    to: &GroupVersionKind,
    objects: Objects<'_>,
) -> Result<(Option<Value>, Option<Value>), Status> {
    let one = async |value: Option<&Value>| match value {
        Some(value) => convert(cx, subject, to, value).await.map(Some),
        None => Ok(None),
    };
    Ok((one(objects.new).await?, one(objects.old).await?))
}

/// An object that was changed in another version, in the request's own again.
pub async fn back(cx: &Cx, subject: &Subject<'_>, from: &GroupVersionKind, value: Value) -> Result<Value, Status> {
    if *from == subject.kind {
        return Ok(value);
    }
    let (from, to) = (kind_in(cx, from)?, kind_in(cx, &subject.kind)?);
    conversion::between(&cx.server, &from, &to, value).await
}

/// A changed object decoded again, where it is one of the request's own kind.
pub fn settled(cx: &Cx, subject: &Subject<'_>, value: Value) -> Result<Value, Status> {
    let own = GroupVersionKind::new(cx.kind.group.as_ref(), cx.kind.version.as_ref(), cx.kind.names.kind.as_ref());
    typed(Some(&cx.kind).filter(|_| subject.kind == own).map(AsRef::as_ref), value)
}

/// An object of the right types, without unknown fields, defaulted; any JSON where the kind is not known.
pub fn typed(kind: Option<&Kind>, mut value: Value) -> Result<Value, Status> {
    let Some(kind) = kind else { return Ok(value) };
    match &kind.schema {
        SchemaSource::Facts(_) => value = decode::value(value, &kind.schema()).map_err(Status::internal)?.value,
        SchemaSource::Custom(schema) => drop(schema.prune(&mut value)),
    }
    value["apiVersion"] = Value::String(kind.api_version());
    value["kind"] = Value::String(kind.names.kind.to_string());
    strategy::default(kind, &mut value);
    Ok(value)
}
