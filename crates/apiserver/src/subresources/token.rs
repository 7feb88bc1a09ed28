//! `serviceaccounts/token`: a signed, expiring token for a ServiceAccount, bound to a pod, a node or a secret if asked.
//!
//! `kubernetes/kubernetes pkg/registry/core/serviceaccount/storage/token.go: TokenREST.Create`.

use jiff::{Span, Timestamp};
use machinery::field::{BadValue, FieldError, FieldErrors, Path};
use machinery::gvk::{GroupKind, GroupResource};
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authn::token::{Bound, Reference};
use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::strategy::seconds;
use crate::{codec, respond};

const HOUR: i64 = 3600;
/// `kubernetes/kubernetes pkg/serviceaccount/claims.go: WarnOnlyBoundTokenExpirationPeriod` (one hour and seven seconds)
/// is what the injected volume asks for; such tokens are extended to a year.
const WARN_AFTER: i64 = HOUR + 7;
const EXTENDED: i64 = 365 * 24 * HOUR;

pub async fn create(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.info.verb != "create" {
        return Err(Status::method_not_supported(&cx.resource(), &cx.info.verb));
    }
    let mut request = if payload.bytes.is_empty() { json!({}) } else { codec::tree(payload)? };
    let found = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await?;
    let account = found.ok_or_else(|| cx.not_found())?.value;
    let wanted = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(HOUR);
    check(wanted)?;
    let audiences: Vec<String> = request
        .pointer("/spec/audiences")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let audiences = if audiences.is_empty() { cx.server.config.audiences.clone() } else { audiences };
    let mut bound =
        Bound { namespace: cx.info.namespace.clone(), serviceaccount: reference(&account), ..Bound::default() };
    if let Some(to) = request.pointer("/spec/boundObjectRef").filter(|to| !to.is_null()) {
        bind(cx, &mut bound, to).await?;
    }
    let extends = wanted == WARN_AFTER && bound.pod.is_some() && audiences == cx.server.config.audiences;
    let lifetime = if extends { EXTENDED } else { wanted };
    if extends {
        bound.warnafter = Some(cx.now.as_second() + wanted);
    }
    let token = cx.server.signer.sign(bound, audiences.clone(), cx.now, lifetime).map_err(Status::internal)?;
    // What the client is told to refresh by is what it asked for, even when the token lives longer.
    let expires = cx.now.checked_add(Span::new().seconds(wanted)).unwrap_or(Timestamp::MAX);
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    object::put(&mut request, &["spec", "expirationSeconds"], json!(wanted));
    object::put(&mut request, &["spec", "audiences"], json!(audiences));
    object::set_name(&mut request, &cx.info.name);
    object::set_namespace(&mut request, &cx.info.namespace);
    object::set_creation_timestamp(&mut request, &seconds(cx.now));
    request["status"] = json!({ "token": token, "expirationTimestamp": seconds(expires) });
    respond::tree(cx, 201, &request)
}

fn check(wanted: i64) -> Result<(), Status> {
    let path = Path::new("spec").child("expirationSeconds");
    let words = match wanted {
        i64::MIN..600 => "may not specify a duration less than 10 minutes",
        4_294_967_297.. => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let error = FieldError::invalid(&path, BadValue::json(&wanted), words);
    Err(Status::invalid(&GroupKind::new("authentication.k8s.io", "TokenRequest"), "", &FieldErrors(vec![error])))
}

fn reference(object: &Value) -> Reference {
    Reference { name: object::name(object).to_owned(), uid: object::uid(object).to_owned() }
}

async fn bind(cx: &Cx, bound: &mut Bound, to: &Value) -> Result<(), Status> {
    let text = |name: &str| to.get(name).and_then(Value::as_str).unwrap_or_default();
    let (plural, namespace) = match (text("apiVersion"), text("kind")) {
        ("v1" | "", "Pod") => ("pods", cx.info.namespace.as_str()),
        ("v1" | "", "Secret") => ("secrets", cx.info.namespace.as_str()),
        ("v1" | "", "Node") => ("nodes", ""),
        (_, kind) => {
            return Err(Status::bad_request(format!("cannot bind token for serviceaccount to object of type {kind}")));
        }
    };
    let found = fetch(cx, plural, namespace, text("name")).await?;
    if !text("uid").is_empty() && text("uid") != object::uid(&found) {
        let words = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Status::conflict(&GroupResource::new("", plural), text("name"), words));
    }
    match plural {
        "pods" => {
            let account = found.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or_default();
            if account != cx.info.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    cx.info.name
                )));
            }
            bound.pod = Some(reference(&found));
            let node = found.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
            if !node.is_empty() {
                bound.node = fetch(cx, "nodes", "", node).await.ok().map(|node| reference(&node));
            }
        }
        "secrets" => bound.secret = Some(reference(&found)),
        _ => bound.node = Some(reference(&found)),
    }
    Ok(())
}

async fn fetch(cx: &Cx, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let missing = || Status::not_found(&GroupResource::new("", plural), name);
    let kind = kinds::by_resource("", "v1", plural).ok_or_else(missing)?;
    Ok(cx.server.registry.get(kind, namespace, name).await?.ok_or_else(missing)?.value)
}
