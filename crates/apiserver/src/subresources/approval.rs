//! `certificatesigningrequests/approval`: of the spec and status only the conditions change.
//! `kubernetes/kubernetes pkg/registry/certificates/certificates/strategy.go: csrApprovalStrategy`.

use kinds::Subresource;
use machinery::object;
use machinery::status::Status;
use serde_json::Value;

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::patch;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond};

pub async fn serve(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let given = match cx.info.verb.as_str() {
        "get" => return crate::verbs::get::get(cx).await,
        "update" => Some(codec::decode(cx, payload, options.field_validation)?),
        "patch" => None,
        _ => return Err(cx.unsupported()),
    };
    let how = Update {
        part: Part::Sub(Subresource::Approval),
        options: &options,
        tracking: Tracking::Update,
        unconditional: false,
    };
    let written = write::update(cx, &how, |old| {
        let given = match &given {
            Some(given) => given.clone(),
            None => patch::patched(cx, payload, &old.value)?.0,
        };
        let conditions = given.pointer("/status/conditions").map(|conditions| stamped(conditions, cx));
        let mut new = given;
        for part in ["spec", "status"] {
            new[part] = old.value[part].clone();
        }
        object::put(&mut new, &["status", "conditions"], conditions.unwrap_or_default());
        Ok(new)
    })
    .await?;
    respond::object(cx, 200, written.ok_or_else(|| cx.not_found())?)
}

/// Conditions without times get the present one.
fn stamped(conditions: &Value, cx: &Cx) -> Value {
    let mut conditions = conditions.clone();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        for name in ["lastUpdateTime", "lastTransitionTime"] {
            if condition.get(name).is_none_or(Value::is_null) {
                condition[name] = Value::from(crate::strategy::seconds(cx.now));
            }
        }
    }
    conditions
}
