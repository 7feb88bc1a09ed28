//! `scale`: a kind's replica count as an `autoscaling/v1 Scale`.

use kinds::{ScalePaths, Subresource};
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::negotiate::Shape;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::patch;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, respond, table};

pub async fn serve(cx: &Cx, paths: &ScalePaths, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.info.verb == "get" {
        let found = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await?;
        let found = found.ok_or_else(|| cx.not_found())?;
        return answer(cx, scale_of(&found.value, paths));
    }
    let options = WriteOptions::parse(&cx.query, cx.user_agent())?;
    let given = match cx.info.verb.as_str() {
        "update" => Some(codec::tree(payload)?),
        "patch" => None,
        verb => return Err(Status::method_not_supported(&cx.resource(), verb)),
    };
    let how = Update {
        part: Part::Sub(Subresource::Scale(paths.clone())),
        options: &options,
        tracking: Tracking::Update,
        unconditional: true,
    };
    let written = write::update(cx, &how, |old| {
        let scale = match &given {
            Some(given) => given.clone(),
            None => patch::patched(cx, payload, &scale_of(&old.value, paths))?.0,
        };
        with_scale(cx, &old.value, &scale, paths)
    })
    .await?;
    let written = written.ok_or_else(|| cx.not_found())?;
    answer(cx, scale_of(&written, paths))
}

/// A Scale in the form asked for.
/// `kubernetes/kubernetes pkg/printers/internalversion/printers.go: printScale`.
fn answer(cx: &Cx, scale: Value) -> Result<HttpResponse, Status> {
    if cx.accept.shape != Shape::Table {
        return respond::tree(cx, 200, &scale);
    }
    let count = |pointer: &str| scale.pointer(pointer).cloned().unwrap_or_else(|| json!(0));
    let cells = vec![
        json!(object::name(&scale)),
        count("/spec/replicas"),
        count("/status/replicas"),
        kinds::columns::age(&scale, cx.now),
    ];
    let head = [
        ("Name", "string", "name", "Name must be unique within a namespace."),
        ("Desired", "integer", "", "The number of replicas that are wanted."),
        ("Available", "integer", "", "The number of replicas that are there."),
        ("Age", "string", "", "The time since the object was created."),
    ];
    respond::tree(cx, 200, &table::single(&head, cells, &scale, cx.accept.include))
}

fn at(object: &Value, path: &str) -> Option<Value> {
    object::at(object, &path.split('.').collect::<Vec<_>>()).cloned()
}

fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{name}")) {
            metadata[name] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {},
        "status": { "replicas": at(object, &paths.status).unwrap_or_else(|| json!(0)) },
    });
    if let Some(replicas) = at(object, &paths.spec).filter(|replicas| replicas != &json!(0)) {
        scale["spec"]["replicas"] = replicas;
    }
    if !paths.selector.is_empty()
        && let Some(selector) = at(object, &paths.selector)
    {
        scale["status"]["selector"] = json!(selector_text(&selector));
    }
    scale
}

/// A label selector, or a plain map of labels, in its text form.
fn selector_text(selector: &Value) -> String {
    if let Value::String(text) = selector {
        return text.clone();
    }
    let structured = selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let whole = if structured { selector.clone() } else { json!({ "matchLabels": selector }) };
    machinery::labels::Selector::from_label_selector(Some(&whole))
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

fn with_scale(cx: &Cx, old: &Value, scale: &Value, paths: &ScalePaths) -> Result<Value, Status> {
    let name = object::name(scale);
    if !name.is_empty() && name != cx.info.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            cx.info.name
        )));
    }
    let replicas = scale.pointer("/spec/replicas").cloned().unwrap_or_else(|| json!(0));
    let Some(count) = replicas.as_i64() else {
        return Err(Status::bad_request(
            "Scale in version \"v1\" cannot be handled as a Scale: spec.replicas is not a number",
        ));
    };
    if count < 0 {
        use machinery::field::{FieldError, FieldErrors, Path};
        let path = Path::new("spec").child("replicas");
        let error =
            FieldError::invalid(&path, machinery::field::BadValue::json(&count), "must be greater than or equal to 0");
        let kind = machinery::gvk::GroupKind::new("autoscaling", "Scale");
        return Err(Status::invalid(&kind, &cx.info.name, &FieldErrors(vec![error])));
    }
    let mut new = old.clone();
    object::put(&mut new, &paths.spec.split('.').collect::<Vec<_>>(), replicas);
    object::set_resource_version(&mut new, object::resource_version(scale));
    Ok(new)
}
