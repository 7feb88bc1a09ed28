//! Server-side apply: the fields a manager wants, merged by ownership.

use machinery::decode::{self, Decoded, Problem};
use machinery::field::{FieldError, Path};
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::{self, FieldValidation, WriteOptions};
use crate::strategy::Part;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, managed, respond};

pub async fn apply(cx: &Cx, payload: &Payload, part: Part, options: &WriteOptions) -> Result<HttpResponse, Status> {
    let Decoded { value: wanted, problems } = configuration(cx, payload)?;
    let manager = options.field_manager.as_str();
    let merge = |old: &Value| {
        let merged = managed::applied(cx, old, &wanted, manager, &part, options.force)?;
        report_repeats(cx, &problems, options.field_validation)?;
        codec::check(cx, merged, &wanted, options.field_validation)
    };
    let how = Update { part: part.clone(), options, tracking: Tracking::Applied, unconditional: true };
    let written = write::update(cx, &how, |old| merge(&old.value)).await?;
    match written {
        Some(written) => respond::object(cx, 200, written),
        None if part != Part::Whole => Err(cx.not_found()),
        None => {
            let empty = json!({ "apiVersion": cx.kind.api_version(), "kind": cx.kind.names.kind });
            respond::object(cx, 201, write::create(cx, merge(&empty)?, options, Tracking::Applied).await?)
        }
    }
}

/// `kubernetes/apiserver pkg/endpoints/handlers/patch.go: applyPatcher`: a conflict is told before a repeated field is.
pub fn report_repeats(cx: &Cx, problems: &[Problem], validation: FieldValidation) -> Result<(), Status> {
    match (validation, decode::repeats_error(problems)) {
        (FieldValidation::Ignore, _) | (_, None) => {}
        (FieldValidation::Warn, Some(_)) => problems.iter().for_each(|problem| cx.warn(problem.to_string())),
        (FieldValidation::Strict, Some(words)) => {
            let words = format!("error strict decoding patch: error converting YAML to JSON: {words}");
            return Err(Status::bad_request(words));
        }
    }
    Ok(())
}

fn encoding(error: &str) -> Status {
    let error = error.trim_start_matches("error converting YAML to JSON: ");
    Status::bad_request(format!("error encoding patch: {error}"))
}

/// The fields that a manager asks for, under the name on the URL.
pub fn configuration(cx: &Cx, payload: &Payload) -> Result<Decoded, Status> {
    if cx.query.text("fieldManager").is_none() {
        let error = FieldError::required(&Path::new("fieldManager"), "is required for apply patch");
        return Err(query::invalid("PatchOptions", error));
    }
    let decoded = decode::yaml(&payload.bytes, None);
    let mut wanted = decoded.map_err(|error| encoding(&error.to_string()))?;
    match object::name(&wanted.value) {
        "" => object::set_name(&mut wanted.value, &cx.info.name),
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
