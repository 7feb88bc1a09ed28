//! `namespaces/finalize`: what the namespace controller says when a namespace's content is gone.

use kinds::Subresource;
use machinery::status::Status;
use serde_json::Value;

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond};

pub async fn update(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.info.verb != "update" {
        return Err(cx.unsupported());
    }
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let given = codec::decode(cx, payload, options.field_validation)?;
    let finalizers = given.pointer("/spec/finalizers").cloned().unwrap_or(Value::Null);
    let how = Update {
        part: Part::Sub(Subresource::Finalize),
        options: &options,
        tracking: Tracking::Update,
        unconditional: true,
    };
    let written = write::update(cx, &how, |old| {
        let mut new = old.value.clone();
        let version = machinery::object::resource_version(&given);
        machinery::object::set_resource_version(&mut new, version);
        match &finalizers {
            Value::Null => {
                machinery::object::take(&mut new, &["spec", "finalizers"]);
            }
            list => machinery::object::put(&mut new, &["spec", "finalizers"], list.clone()),
        }
        Ok(new)
    })
    .await?;
    respond::object(cx, 200, written.ok_or_else(|| cx.not_found())?)
}
