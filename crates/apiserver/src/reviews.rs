//! Kinds that are questions and are never stored: access reviews, rules reviews, token reviews, and the old Binding.
//!
//! `kubernetes/kubernetes pkg/registry/authorization` and `pkg/registry/authentication`.

use admit::{Attributes, Decision, UserInfo, rbac};
use kinds::validate::{At, shown};
use machinery::field::{BadValue, FieldError, FieldErrors, Path};
use machinery::fields::{FieldSelector, Term};
use machinery::gvk::GroupKind;
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authn::token;
use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::negotiate::Shape;
use crate::strategy::Part;
use crate::verbs::write;
use crate::{authz, codec, managed, respond};

pub async fn create(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.accept.shape != Shape::Whole {
        // A question has no metadata to show by itself, nor in a table.
        return Err(respond::not_acceptable());
    }
    let options = crate::query::WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let mut review = codec::decode(cx, payload, options.field_validation)?;
    write::check_namespace(cx, &mut review)?;
    managed::record(cx, &mut review, None, &options.field_manager, &Part::Whole);
    check(cx, &review)?;
    match cx.kind.names.kind.as_ref() {
        "SelfSubjectAccessReview" => {
            let user = cx.user.clone();
            review["status"] = access(cx, &review["spec"], &user)?;
        }
        "SubjectAccessReview" => review["status"] = access_of_named(cx, &review["spec"])?,
        "LocalSubjectAccessReview" => review["status"] = access_of_named(cx, &review["spec"])?,
        "SelfSubjectRulesReview" => {
            // Upstream answers with an object of its own.
            review["status"] = rules(cx, &review["spec"])?;
            review["metadata"] = json!({});
            review["spec"] = json!({});
        }
        "SelfSubjectReview" => {
            review["metadata"] = json!({ "creationTimestamp": crate::strategy::seconds(cx.now) });
            review["status"] = json!({ "userInfo": cx.user });
        }
        "TokenReview" => token_review(cx, &mut review).await?,
        "Binding" => return bind(cx, payload, &review).await,
        _ => return Err(cx.unsupported()),
    }
    respond::tree(cx, 201, &review)
}

/// `POST bindings`: the same as the subresource of the pod it names.
async fn bind(cx: &Cx, payload: &Payload, binding: &Value) -> Result<HttpResponse, Status> {
    let catalog = cx.server.catalog.load_full();
    let pods = catalog.find("", "v1", "pods").ok_or_else(Status::unknown_path)?;
    let mut one = cx.named(&cx.info.namespace, object::name(binding));
    one.kind = std::sync::Arc::clone(pods);
    crate::subresources::serve(&one, &kinds::Subresource::Binding, payload).await
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn access_of_named(cx: &Cx, spec: &Value) -> Result<Value, Status> {
    let mut user = UserInfo {
        name: text(spec, "user").to_owned(),
        uid: text(spec, "uid").to_owned(),
        groups: strings(spec.get("groups")),
        ..UserInfo::default()
    };
    for (key, values) in spec.get("extra").and_then(Value::as_object).into_iter().flatten() {
        user.extra.insert(key.clone(), strings(Some(values)));
    }
    access(cx, spec, &user)
}

/// What an access review must say, and what it may not.
/// `kubernetes/kubernetes pkg/apis/authorization/validation/validation.go`.
fn check(cx: &Cx, review: &Value) -> Result<(), Status> {
    let kind = cx.kind.names.kind.as_ref();
    let local = kind == "LocalSubjectAccessReview";
    if !kind.ends_with("AccessReview") {
        return Ok(());
    }
    let mut errors = FieldErrors::new();
    let at = At::root(review);
    let spec = at.field("spec");
    let (resource, path) = (spec.field("resourceAttributes"), spec.field("nonResourceAttributes"));
    if resource.is_set() == path.is_set() {
        let shown = if path.is_set() { path_shown(&path) } else { shown("null") };
        let words = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid(&spec.path, shown, words));
    }
    if kind != "SelfSubjectAccessReview" && spec.field("user").is_empty() && spec.field("groups").is_empty() {
        let words = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&spec.path.child("user"), "", words));
    }
    for name in ["fieldSelector", "labelSelector"] {
        if let Some(selector) = resource.set(name) {
            either_form(&selector, &mut errors);
        }
    }
    let mut metadata = review["metadata"].as_object().cloned().unwrap_or_default();
    metadata.retain(|_, value| !value.is_null());
    let allowed = |name: &String| name == "managedFields" || local && name == "namespace";
    if !metadata.keys().all(allowed) {
        let words = if local { "must be empty except for namespace" } else { "must be empty" };
        errors.push(FieldError::invalid(&Path::new("metadata"), Value::Object(metadata), words));
    }
    let namespace = resource.field("namespace");
    if local && resource.is_set() && !namespace.is(&cx.info.namespace) {
        errors.push(FieldError::invalid(&namespace.path, namespace.text(), "must match metadata.namespace"));
    }
    if local && path.is_set() {
        errors.push(FieldError::invalid(&path.path, path_shown(&path), "disallowed on this kind of request"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Upstream leaves the kind out.
    Err(Status::invalid(&GroupKind::new(cx.kind.group.as_ref(), ""), "", &errors))
}

fn path_shown(path: &At) -> BadValue {
    let quoted = |name: &str| machinery::go::quote(path.field(name).text());
    shown(format!("{{\"Path\":{},\"Verb\":{}}}", quoted("path"), quoted("verb")))
}

/// A selector is written as text or as requirements.
fn either_form(selector: &At, errors: &mut FieldErrors) {
    let (raw, requirements) = (selector.field("rawSelector"), selector.field("requirements"));
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => raw.invalid(errors, "may not specified at the same time as requirements"),
        (true, true) => {
            let words = format!("when {} is specified, requirements or rawSelector is required", selector.path);
            requirements.required(errors, &words);
        }
        _ => {}
    }
}

fn access(cx: &Cx, spec: &Value, user: &UserInfo) -> Result<Value, Status> {
    let resource = spec.get("resourceAttributes").filter(|value| !value.is_null());
    let path = spec.get("nonResourceAttributes").filter(|value| !value.is_null());
    let fields = resource.map(|resource| selected(&resource["fieldSelector"])).transpose()?;
    let attributes = match (resource, path) {
        (Some(resource), None) => Attributes {
            fields: fields.as_ref(),
            user,
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            version: text(resource, "version"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: "",
        },
        (None, Some(path)) => Attributes { verb: text(path, "verb"), path: text(path, "path"), ..Attributes::of(user) },
        _ => return Err(Status::bad_request("one of the two kinds of attributes must be given")),
    };
    let mut status = json!({ "allowed": false });
    match authz::decide(&cx.server, &attributes) {
        Decision::Allow(reason) => {
            status["allowed"] = json!(true);
            note(&mut status, reason);
        }
        Decision::Deny(reason) => {
            status["denied"] = json!(true);
            note(&mut status, reason);
        }
        Decision::NoOpinion(reason) => note(&mut status, reason),
    }
    Ok(status)
}

/// What a review's `fieldSelector` limits the request to: its text, or requirements of one value each.
/// `kubernetes/kubernetes pkg/registry/authorization/util/helpers.go: fieldSelectorAsSelector`.
fn selected(selector: &Value) -> Result<FieldSelector, Status> {
    let raw = text(selector, "rawSelector");
    if !raw.is_empty() {
        return FieldSelector::parse(raw).map_err(Status::bad_request);
    }
    let mut terms = Vec::new();
    for requirement in selector.get("requirements").and_then(Value::as_array).into_iter().flatten() {
        let values = strings(requirement.get("values"));
        let equal = match text(requirement, "operator") {
            "In" => true,
            "NotIn" => false,
            _ => continue,
        };
        if let [value] = values.as_slice() {
            terms.push(Term { field: text(requirement, "key").to_owned(), value: value.clone(), equal });
        }
    }
    Ok(FieldSelector { terms })
}

fn note(status: &mut Value, reason: String) {
    if !reason.is_empty() {
        status["reason"] = json!(reason);
    }
}

fn rules(cx: &Cx, spec: &Value) -> Result<Value, Status> {
    let namespace = text(spec, "namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut resource_rules = Vec::new();
    let mut path_rules = Vec::new();
    for rule in rbac::rules_for(&cx.server.view(), &cx.user, namespace) {
        let rule = serde_json::to_value(rule).map_err(Status::internal)?;
        let paths = rule.get("nonResourceURLs").and_then(Value::as_array).is_some_and(|paths| !paths.is_empty());
        if paths { path_rules.push(rule) } else { resource_rules.push(rule) }
    }
    Ok(json!({ "resourceRules": resource_rules, "nonResourceRules": path_rules, "incomplete": false }))
}

/// What the client wrote into the status stays where the answer says nothing of it.
async fn token_review(cx: &Cx, review: &mut Value) -> Result<(), Status> {
    let given = text(&review["spec"], "token");
    if given.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = strings(review["spec"].get("audiences"));
    let answered = token::authenticate(&cx.server, given, &audiences).await;
    if !review["status"].is_object() {
        review["status"] = json!({ "user": {} });
    }
    let status = &mut review["status"];
    match answered {
        Ok(verified) => {
            status["authenticated"] = json!(true);
            status["user"] = json!(verified.user);
            status["audiences"] = json!(verified.audiences);
        }
        Err(error) => {
            object::take(status, &["authenticated"]);
            status["error"] = json!(error);
        }
    }
    Ok(())
}
