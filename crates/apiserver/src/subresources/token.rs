//! `serviceaccounts/token`: a signed, expiring token for a ServiceAccount, bound to a pod, a node or a secret if asked.
//!
//! `kubernetes/kubernetes pkg/registry/core/serviceaccount/storage/token.go: TokenREST.Create`.

use jiff::{Span, Timestamp};
use machinery::field::{BadValue, FieldError, FieldErrors, Path};
use machinery::gvk::{GroupKind, GroupResource};
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::authn::token::{Bound, Reference};
use crate::context::{Cx, Payload};
use crate::http::HttpResponse;
use crate::query::WriteOptions;
use crate::strategy::seconds;
use crate::{codec, managed, respond};

const GROUP: &str = "authentication.k8s.io";
const HOUR: i64 = 3600;
/// `kubernetes/kubernetes pkg/serviceaccount/claims.go: WarnOnlyBoundTokenExpirationPeriod` (one hour and seven seconds)
/// is what the injected volume asks for; such tokens are extended to a year.
const WARN_AFTER: i64 = HOUR + 7;
const EXTENDED: i64 = 365 * 24 * HOUR;

const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";

pub async fn create(cx: &Cx, payload: &Payload) -> Result<HttpResponse, Status> {
    if cx.info.verb != "create" {
        return Err(cx.unsupported());
    }
    let options = WriteOptions::parse(&cx.query, cx.user_agent(), &cx.info.verb)?;
    let mut request = codec::typed(payload, TOKEN_REQUEST, &[])?;
    // Asked first, of the request as it came: an audience is not filled in yet.
    admission::mutate(cx, Operation::Create, &mut request, None).await?;
    admission::validate(cx, Operation::Create, Some(&request), None).await?;
    check_name(cx, &request)?;
    let found = cx.server.registry.get(&cx.kind, &cx.info.namespace, &cx.info.name).await?;
    let account = found.ok_or_else(|| cx.not_found())?.value;
    let wanted = request.pointer("/spec/expirationSeconds").and_then(Value::as_i64).unwrap_or(HOUR);
    object::put(&mut request, &["spec", "expirationSeconds"], json!(wanted));
    request["kind"] = json!("TokenRequest");
    request["apiVersion"] = json!(format!("{GROUP}/v1"));
    managed::record_part(cx, &mut request, TOKEN_REQUEST, &options.field_manager, "token");
    let audiences = fill_in(cx, &mut request, &account)?;
    check(wanted)?;
    let mut bound =
        Bound { namespace: cx.info.namespace.clone(), serviceaccount: reference(&account), ..Bound::default() };
    match request.pointer("/spec/boundObjectRef").filter(|to| !to.is_null()) {
        Some(to) => bind(cx, &mut bound, to).await?,
        None => object::put(&mut request, &["spec", "boundObjectRef"], Value::Null),
    }
    let extends = wanted == WARN_AFTER && bound.pod.is_some() && audiences == cx.server.config.audiences;
    let lifetime = if extends { EXTENDED } else { wanted };
    if extends {
        bound.warnafter = Some(cx.now.as_second() + wanted);
    }
    let token = cx.server.signer.sign(bound, audiences, cx.now, lifetime).map_err(Status::internal)?;
    // What the client is told to refresh by is what it asked for, even when the token lives longer.
    let expires = cx.now.checked_add(Span::new().seconds(wanted)).unwrap_or(Timestamp::MAX);
    request["status"] = json!({ "token": token, "expirationTimestamp": seconds(expires) });
    respond::tree(cx, 201, &request)
}

/// A request that names an account names that of the URL.
fn check_name(cx: &Cx, request: &Value) -> Result<(), Status> {
    let metadata = Path::new("metadata");
    let (name, namespace) = (object::name(request), object::namespace(request));
    let error = if !name.is_empty() && name != cx.info.name {
        FieldError::invalid(&metadata.child("name"), name, "must match the service account name if specified")
    } else if !namespace.is_empty() && namespace != cx.info.namespace {
        let words = "must match the service account namespace if specified";
        FieldError::invalid(&metadata.child("namespace"), namespace, words)
    } else {
        return Ok(());
    };
    Err(Status::invalid(&GroupKind::new(GROUP, "TokenRequest"), &cx.info.name, &FieldErrors(vec![error])))
}

/// Whose token it is, when it was asked for and by default for whom; answers the audiences.
fn fill_in(cx: &Cx, request: &mut Value, account: &Value) -> Result<Vec<String>, Status> {
    let (given, uid) = (object::uid(request).to_owned(), object::uid(account));
    if !given.is_empty() && given != uid {
        let words =
            format!("the UID in the token request ({given}) does not match the UID of the service account ({uid})");
        return Err(Status::conflict(&GroupResource::new(GROUP, "TokenRequest"), &cx.info.name, words));
    }
    object::set_name(request, &cx.info.name);
    object::set_namespace(request, &cx.info.namespace);
    object::metadata_mut(request).insert("uid".to_owned(), json!(uid));
    object::set_creation_timestamp(request, &seconds(cx.now));
    let named = request.pointer("/spec/audiences").and_then(Value::as_array).into_iter().flatten();
    let mut audiences: Vec<String> = named.filter_map(Value::as_str).map(str::to_owned).collect();
    if audiences.is_empty() {
        audiences.clone_from(&cx.server.config.audiences);
    }
    object::put(request, &["spec", "audiences"], json!(audiences));
    Ok(audiences)
}

fn check(wanted: i64) -> Result<(), Status> {
    let path = Path::new("spec").child("expirationSeconds");
    let words = match wanted {
        i64::MIN..600 => "may not specify a duration less than 10 minutes",
        4_294_967_297.. => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let error = FieldError::invalid(&path, BadValue::json(&wanted), words);
    Err(Status::invalid(&GroupKind::new(GROUP, "TokenRequest"), "", &FieldErrors(vec![error])))
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
        (version, kind) => {
            let version = if version.contains('/') { version.to_owned() } else { format!("/{version}") };
            return Err(Status::bad_request(format!("cannot bind token to object of type {version}, Kind={kind}")));
        }
    };
    let found = fetch(cx, plural, namespace, text("name")).await?;
    if !text("uid").is_empty() && text("uid") != object::uid(&found) {
        let words = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Status::conflict(&GroupResource::new("", text("kind")), text("name"), words));
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
                bound.node = Some(match fetch(cx, "nodes", "", node).await {
                    Ok(found) => reference(&found),
                    // The name alone still says where the pod runs.
                    Err(status) if status.is_not_found() => Reference { name: node.to_owned(), ..Reference::default() },
                    Err(status) => return Err(status),
                });
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
