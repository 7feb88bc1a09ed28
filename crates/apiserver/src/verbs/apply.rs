//! Server-side apply: the fields a manager wants, merged by ownership.

use machinery::object;
use machinery::status::Status;

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond};

pub async fn apply(cx: &Cx, payload: &Payload, part: Part, options: &WriteOptions) -> Result<HttpResponse, Status> {
    let yaml = Payload { bytes: payload.bytes.clone(), content_type: "application/yaml".to_owned() };
    let mut wanted = codec::tree(&yaml)?;
    if cx.query.text("fieldManager").is_none() {
        let path = machinery::field::Path::new("fieldManager");
        let error = machinery::field::FieldError::required(&path, "is required for apply patch");
        let kind = machinery::gvk::GroupKind::new("meta.k8s.io", "PatchOptions");
        return Err(Status::invalid(&kind, "", &machinery::field::FieldErrors(vec![error])));
    }
    if object::name(&wanted).is_empty() {
        object::set_name(&mut wanted, &cx.info.name);
    }
    let how = Update { part, options, tracking: Tracking::Applied, unconditional: true };
    let written = write::update(cx, &how, |old| {
        let mut new = old.value.clone();
        new = machinery::patch::merge::apply(&new, &wanted)?;
        codec::check(cx, new, &wanted, options.field_validation)
    })
    .await?;
    match written {
        Some(written) => respond::object(cx, 200, written.value),
        None => {
            let value = codec::check(cx, wanted.clone(), &wanted, options.field_validation)?;
            respond::object(cx, 201, write::create(cx, value, options, Tracking::Applied).await?)
        }
    }
}
