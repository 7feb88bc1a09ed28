//! PUT of an object, or of its status.

use machinery::object;
use machinery::status::Status;

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond};

pub async fn update(cx: &Cx, payload: &Payload, part: Part) -> Result<HttpResponse, Status> {
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let value = codec::decode(cx, payload, options.field_validation)?;
    match object::name(&value) {
        "" => {
            return Err(Status::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                cx.info.name
            )));
        }
        given if given == cx.info.name => {}
        given => {
            return Err(Status::bad_request(format!(
                "the name of the object ({given}) does not match the name on the URL ({})",
                cx.info.name
            )));
        }
    }
    let whole = part == Part::Whole;
    let how = Update { part, options: &options, tracking: Tracking::Update, unconditional: false };
    let written = write::update(cx, &how, |_| Ok(value.clone())).await?;
    match written {
        Some(written) => respond::object(cx, 200, written),
        None if cx.kind.create_on_update && whole => {
            let uid = object::uid(&value);
            if !uid.is_empty() {
                return Err(write::other_uid(cx, uid, "", options.dry_run));
            }
            let created = write::create(cx, value, &options, Tracking::Update).await?;
            respond::object(cx, 201, created)
        }
        None => Err(cx.not_found()),
    }
}
