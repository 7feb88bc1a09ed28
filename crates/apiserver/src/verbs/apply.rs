//! Server-side apply: the fields a manager wants, merged by ownership.

use machinery::field::{FieldError, Path};
use machinery::status::Status;
use machinery::{decode, object};
use serde_json::{Value, json};

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::{self, WriteOptions};
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

fn encoding(error: &str) -> Status {
    let error = error.trim_start_matches("error converting YAML to JSON: ");
    Status::bad_request(format!("error encoding patch: {error}"))
}

/// The fields that a manager asks for, under the name on the URL.
pub fn configuration(cx: &Cx, payload: &Payload) -> Result<Value, Status> {
    if cx.query.text("fieldManager").is_none() {
        let error = FieldError::required(&Path::new("fieldManager"), "is required for apply patch");
        return Err(query::invalid("PatchOptions", error));
    }
    let decoded = decode::yaml(&payload.bytes, None);
    let mut wanted = decoded.map_err(|error| encoding(&error.to_string()))?.value;
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
