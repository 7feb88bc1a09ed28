//! Server-side apply: the fields a manager wants, merged by ownership.

use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, managed, respond};

pub async fn apply(cx: &Cx, payload: &Payload, part: Part, options: &WriteOptions) -> Result<HttpResponse, Status> {
    let wanted = configuration(cx, payload)?;
    let manager = options.field_manager.as_str();
    let how = Update { part: part.clone(), options, tracking: Tracking::Applied, unconditional: true };
    let written = write::update(cx, &how, |old| {
        let merged = managed::applied(cx, &old.value, &wanted, manager, &part, options.force)?;
        codec::check(cx, merged, &wanted, options.field_validation)
    })
    .await?;
    match written {
        Some(written) => respond::object(cx, 200, written),
        None if part != Part::Whole => Err(cx.not_found()),
        None => {
            let empty = json!({ "apiVersion": cx.kind.api_version(), "kind": cx.kind.names.kind });
            let merged = managed::applied(cx, &empty, &wanted, manager, &part, options.force)?;
            let value = codec::check(cx, merged, &wanted, options.field_validation)?;
            respond::object(cx, 201, write::create(cx, value, options, Tracking::Applied).await?)
        }
    }
}

/// The fields that a manager asks for, under the name on the URL.
pub fn configuration(cx: &Cx, payload: &Payload) -> Result<Value, Status> {
    let yaml = Payload { bytes: payload.bytes.clone(), content_type: "application/yaml".to_owned() };
    let mut wanted = codec::tree(&yaml)?;
    if cx.query.text("fieldManager").is_none() {
        let path = machinery::field::Path::new("fieldManager");
        let error = machinery::field::FieldError::required(&path, "is required for apply patch");
        let kind = machinery::gvk::GroupKind::new("meta.k8s.io", "PatchOptions");
        return Err(Status::invalid(&kind, "", &machinery::field::FieldErrors(vec![error])));
    }
    match object::name(&wanted) {
        "" => object::set_name(&mut wanted, &cx.info.name),
        name if name == cx.info.name => {}
        name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                cx.info.name
            )));
        }
    }
    Ok(wanted)
}
