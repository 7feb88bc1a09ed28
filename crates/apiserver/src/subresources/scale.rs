//! `scale`: a kind's replica count as an `autoscaling/v1 Scale`.

use kinds::{ScalePaths, Subresource};
use machinery::decode::Decoded;
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::negotiate::Shape;
use crate::query::WriteOptions;
use crate::strategy::Part;
use crate::verbs::apply::{configuration, report_repeats};
use crate::verbs::patch;
use crate::verbs::write::{self, Tracking, Update};
use crate::{codec, managed, respond, table};

const SCALE: &str = "autoscaling/v1";

pub async fn serve(cx: &Cx, paths: &ScalePaths, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.info.verb == "get" {
        let found = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await?;
        let found = found.ok_or_else(|| cx.not_found())?;
        return answer(cx, scale_of(&found.value, paths));
    }
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let given = match cx.info.verb.as_str() {
        "update" => Some(codec::typed(payload, "io.k8s.api.autoscaling.v1.Scale", &[])?),
        "patch" if payload.media_type() == patch::APPLY => return apply(cx, paths, payload, &options).await,
        "patch" => None,
        _ => return Err(cx.unsupported()),
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

/// Server-side apply: who applies a Scale owns the count of the scaled object.
/// `kubernetes/apimachinery pkg/util/managedfields/scalehandler.go`.
async fn apply(cx: &Cx, paths: &ScalePaths, payload: &Payload, options: &WriteOptions) -> Result<HttpResponse, Status> {
    let Decoded { value: scale, problems } = configuration(cx, payload)?;
    let (version, kind) = (object::api_version(&scale), object::kind(&scale));
    if (version, kind) != (SCALE, "Scale") {
        return Err(Status::bad_request(format!("invalid object type: {version}, Kind={kind}")));
    }
    let metadata = json!({ "name": cx.info.name, "namespace": cx.info.namespace });
    let mut wanted = json!({ "apiVersion": cx.kind.api_version(), "kind": cx.kind.names.kind, "metadata": metadata });
    if scale.pointer("/spec/replicas").is_some() {
        object::put(&mut wanted, &paths.spec.split('.').collect::<Vec<_>>(), count(cx, &scale)?);
    }
    let part = Part::Sub(Subresource::Scale(paths.clone()));
    let how = Update { part: part.clone(), options, tracking: Tracking::Applied, unconditional: true };
    let written = write::update(cx, &how, |old| {
        let merged = managed::applied(cx, &old.value, &wanted, &options.field_manager, &part, options.force);
        let mut merged = merged.map_err(|status| of_scale(cx, status))?;
        report_repeats(cx, &problems, options.field_validation)?;
        object::set_resource_version(&mut merged, object::resource_version(&scale));
        Ok(merged)
    })
    .await?;
    answer(cx, scale_of(&written.ok_or_else(|| cx.not_found())?, paths))
}

/// A conflict about the object, told as one about its Scale.
fn of_scale(cx: &Cx, mut status: Status) -> Status {
    let told = |text: &str| text.replace(&format!(" using {}", cx.kind.api_version()), &format!(" using {SCALE}"));
    status.message = told(&status.message);
    for cause in status.details.iter_mut().flat_map(|details| &mut details.causes) {
        cause.message = told(&cause.message);
    }
    status
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

pub fn scale_of(object: &Value, paths: &ScalePaths) -> Value {
    let mut metadata = json!({});
    for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{name}")) {
            metadata[name] = value.clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale",
        "apiVersion": SCALE,
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
    let replicas = count(cx, scale)?;
    let mut new = old.clone();
    object::put(&mut new, &paths.spec.split('.').collect::<Vec<_>>(), replicas);
    object::set_resource_version(&mut new, object::resource_version(scale));
    Ok(new)
}

/// The count that a Scale asks for, none being zero.
fn count(cx: &Cx, scale: &Value) -> Result<Value, Status> {
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
    Ok(replicas)
}
