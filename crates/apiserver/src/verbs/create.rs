//! POST to a collection.

use machinery::status::Status;

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::verbs::write::{self, Tracking};
use crate::{codec, respond};

pub async fn create(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let value = codec::decode(cx, payload, options.field_validation)?;
    let created = write::create(cx, value, &options, Tracking::Update).await?;
    respond::object(cx, 201, created)
}
