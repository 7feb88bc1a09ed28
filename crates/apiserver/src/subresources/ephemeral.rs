//! `pods/ephemeralcontainers` and `pods/resize`: the two ways to change what a running pod is made of.

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::patch;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond};
use kinds::Subresource;
use machinery::status::Status;

/// Which part of the spec the request may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    EphemeralContainers,
    Resize,
}

pub async fn serve(cx: &Cx, payload: &Payload, what: What) -> Result<HttpResponse, Status> {
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let given = match cx.info.verb.as_str() {
        "get" => return crate::verbs::get::get(cx).await,
        "update" => Some(codec::decode(cx, payload, options.field_validation)?),
        "patch" => None,
        _ => return Err(cx.unsupported()),
    };
    let part = if what == What::Resize { Subresource::Resize } else { Subresource::EphemeralContainers };
    let how = Update { part: Part::Sub(part), options: &options, tracking: Tracking::Update, unconditional: true };
    let written = write::update(cx, &how, |old| {
        let given = match &given {
            Some(given) => given.clone(),
            None => {
                let (patched, shown) = patch::patched(cx, payload, &old.value)?;
                codec::check(cx, patched, &shown, options.field_validation)?
            }
        };
        Ok(given)
    })
    .await?;
    respond::object(cx, 200, written.ok_or_else(|| cx.not_found())?)
}
