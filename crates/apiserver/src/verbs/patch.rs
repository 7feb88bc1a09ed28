//! PATCH: JSON patch, merge patch, strategic merge patch, and server-side apply.

use kinds::kind::SchemaSource;
use machinery::field::{FieldError, Path};
use machinery::status::Status;
use machinery::{decode, object, patch};
use serde_json::Value;

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, query, respond};

/// Server-side apply's media type.
pub const APPLY: &str = "application/apply-patch+yaml";

/// What a patch may be written in.
pub const ACCEPTED: [&str; 4] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", APPLY];

pub async fn patch(cx: &Cx, payload: &Payload, part: Part) -> Result<HttpResponse, Status> {
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    if payload.media_type() == APPLY {
        return crate::verbs::apply::apply(cx, payload, part, &options).await;
    }
    if options.force {
        let error = FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        return Err(query::invalid("PatchOptions", error));
    }
    let how = Update { part, options: &options, tracking: Tracking::Update, unconditional: true };
    let written = write::update(cx, &how, |old| {
        let (patched, shown) = patched(cx, payload, &old.value)?;
        codec::check(cx, patched, &shown, options.field_validation)
    })
    .await?;
    respond::object(cx, 200, written.ok_or_else(|| cx.not_found())?)
}

/// The object with the patch on it, and what a refusal of it shows: the patch when it is strategic, else the object.
pub fn patched(cx: &Cx, payload: &Payload, old: &Value) -> Result<(Value, Value), Status> {
    let undecodable = |error: &dyn std::fmt::Display| Status::bad_request(format!("error decoding patch: {error}"));
    let patch: Value = match decode::json(&payload.bytes, None) {
        Ok(decoded) => decoded.value,
        Err(error) => return Err(undecodable(&error)),
    };
    let (patched, strategic) = match payload.media_type() {
        "application/json-patch+json" => (patch::json::apply(old, &patch)?, false),
        "application/merge-patch+json" => (patch::merge::apply(old, &patch)?, false),
        "application/strategic-merge-patch+json" if matches!(cx.kind.schema, SchemaSource::Facts(_)) => {
            (patch::strategic::apply(old, &patch, &cx.kind.schema())?, true)
        }
        "application/strategic-merge-patch+json" => {
            return Err(Status::unsupported_media_type(&[ACCEPTED[0], ACCEPTED[1], ACCEPTED[3]]));
        }
        _ => return Err(Status::unsupported_media_type(&ACCEPTED)),
    };
    let name = object::name(&patched);
    if name != cx.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            cx.info.name
        )));
    }
    let shown = if strategic { patch } else { patched.clone() };
    Ok((patched, shown))
}
