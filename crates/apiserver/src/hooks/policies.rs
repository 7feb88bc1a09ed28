//! Admission policies put to a request: which concern it, with which parameters, and what becomes of what they say.
//!
//! `kubernetes/apiserver pkg/admission/plugin/policy/{validating,mutating}/dispatcher.go` and
//! `.../generic/policy_dispatcher.go: CollectParams`.

use std::collections::HashMap;
use std::sync::Arc;

use admit::hooks::{Binding, Denial, Matched, Policy, Subject, variables};
use k8s_openapi::api::admissionregistration::v1::ParamRef;
use machinery::cel::Val;
use machinery::gvk::GroupResource;
use machinery::labels::Selector;
use machinery::object;
use machinery::status::{Cause, Status};
use serde_json::Value;

use super::{GROUP, Memory, Objects, around, versions};
use crate::cache::Object;
use crate::context::Cx;
use crate::hooks::around::Around;

/// A policy at work on a request: by which binding, in which version, with which parameters.
struct AtWork {
    policy: Arc<Policy>,
    binding: Arc<Binding>,
    matched: Matched,
    /// `None` where the policy has none, or its binding gives it none.
    param: Option<Value>,
}

/// What could not be put to work, and what was refused.
struct Refusal {
    policy: Arc<Policy>,
    binding: Option<Arc<Binding>>,
    denial: Denial,
}

fn refusal(policy: &Arc<Policy>, binding: Option<&Arc<Binding>>, message: String) -> Refusal {
    let denial = Denial { message, reason: String::new() };
    Refusal { policy: Arc::clone(policy), binding: binding.cloned(), denial }
}

/// The policies of a resource (`validatingadmissionpolicies`) that concern the request, and the failures of those that
/// fail when they cannot be asked.
fn at_work(cx: &Cx, plural: &str, subject: &Subject<'_>, objects: Objects<'_>) -> (Vec<AtWork>, Vec<Refusal>) {
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let view = cx.server.view();
    let policies: Vec<Arc<Policy>> = view.list(GROUP, plural, "");
    if policies.is_empty() || subject.is_exempt() {
        return (found, refused);
    }
    let bindings: Vec<Arc<Binding>> = view.list(GROUP, &plural.replace("policies", "policybindings"), "");
    let around = Around::new(&cx.server);
    for policy in &policies {
        let mut bound = bindings.iter().filter(|binding| binding.policy == policy.name).peekable();
        if bound.peek().is_none() {
            continue;
        }
        let mut fail = |binding: Option<&Arc<Binding>>, what: &str, error: String| {
            if !policy.ignore_failures {
                refused.push(refusal(policy, binding, format!("failed to configure {what}: {error}")));
            }
        };
        let matched = match policy.criteria.matches(subject, &around, objects.new, objects.old) {
            Ok(Some(matched)) => matched,
            Ok(None) => continue,
            Err(status) => {
                fail(None, "policy", status.message);
                continue;
            }
        };
        for binding in bound {
            let criteria = binding.criteria.as_ref();
            match criteria.map(|criteria| criteria.matches(subject, &around, objects.new, objects.old)) {
                None | Some(Ok(Some(_))) => {}
                Some(Ok(None)) => continue,
                Some(Err(status)) => {
                    fail(Some(binding), "binding", status.message);
                    continue;
                }
            }
            match params(cx, policy, binding, subject.namespace) {
                Ok(params) => found.extend(params.into_iter().map(|param| AtWork {
                    policy: Arc::clone(policy),
                    binding: Arc::clone(binding),
                    matched: matched.clone(),
                    param,
                })),
                Err(error) => fail(Some(binding), "binding", error),
            }
        }
    }
    (found, refused)
}

/// The objects that a binding hands to its policy; a policy without parameters is asked once.
fn params(cx: &Cx, policy: &Policy, binding: &Binding, namespace: &str) -> Result<Vec<Option<Value>>, String> {
    let (Some((api_version, name)), Some(wanted)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![None]);
    };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let catalog = cx.server.catalog.load();
    let kind = catalog
        .by_kind(group, version, name)
        .cloned()
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{api_version}, Kind={name}'"))?;
    let of_ref = wanted.namespace.as_deref().unwrap_or_default();
    let namespace = match (kind.namespaced(), of_ref, namespace) {
        (false, "", _) => "",
        (false, _, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned());
        }
        (true, "", "") => {
            return Err(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned()
            );
        }
        (true, "", own) => own,
        (true, named, _) => named,
    };
    let cache = cx.server.caches.of(&kind).ok_or_else(|| format!("paramKind kind `{name}` not known"))?;
    let chosen: Vec<Arc<Object>> = match chosen_by(wanted)? {
        By::Name(name) => {
            let key = if kind.namespaced() { format!("{namespace}/{name}") } else { name.to_owned() };
            cache.get(&key).into_iter().collect()
        }
        By::Labels(selector) => {
            let all = cache.list(namespace).0;
            all.into_iter().filter(|object| selector.matches(&object.labels)).collect()
        }
    };
    if chosen.is_empty() && wanted.parameter_not_found_action.as_deref() == Some("Deny") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let value =
        |object: &Arc<Object>| crate::registry::from_storage(&kind, object.value()).map_err(|status| status.message);
    chosen.iter().map(|object| value(object).map(Some)).collect()
}

enum By<'a> {
    Name(&'a str),
    Labels(Selector),
}

fn chosen_by(wanted: &ParamRef) -> Result<By<'_>, String> {
    match (wanted.name.as_deref().filter(|name| !name.is_empty()), &wanted.selector) {
        (Some(_), Some(_)) => Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned()),
        (Some(name), None) => Ok(By::Name(name)),
        (None, Some(selector)) => {
            let selector = serde_json::to_value(selector).map_err(|error| error.to_string())?;
            Selector::from_label_selector(Some(&selector)).map(By::Labels)
        }
        (None, None) => Err("one of name or selector must be provided".to_owned()),
    }
}

/// Everything that the expressions of a policy see.
fn seen(
    cx: &Cx,
    subject: &Subject<'_>,
    work: &AtWork,
    new: Option<&Value>,
    old: Option<&Value>,
) -> HashMap<String, Val> {
    let authorizer = around::authorizer(&cx.server, subject.user);
    let mut variables = variables(subject, &work.matched, new, old, authorizer);
    variables.insert("params".to_owned(), work.param.as_ref().map_or(Val::Null, Val::from_json));
    variables.insert("namespaceObject".to_owned(), namespace_object(cx, subject));
    variables
}

/// The request's namespace; null for what is of the cluster, namespaces included.
fn namespace_object(cx: &Cx, subject: &Subject<'_>) -> Val {
    if subject.namespace.is_empty() || &*subject.resource.resource == "namespaces" {
        return Val::Null;
    }
    let Some(kind) = kinds::by_resource("", "v1", "namespaces") else { return Val::Null };
    let found = cx.server.caches.of(kind).and_then(|cache| cache.get(subject.namespace));
    found.map_or(Val::Null, |object| {
        let mut value = object.value();
        object::metadata_mut(&mut value).remove("managedFields");
        Val::from_json(&value)
    })
}

/// Asks the validating policies; their warnings go to the client in any case.
pub async fn validate(cx: &Cx, subject: &Subject<'_>, objects: Objects<'_>) -> Result<(), Status> {
    let (found, mut refused) = at_work(cx, "validatingadmissionpolicies", subject, objects);
    for work in &found {
        let (new, old) = versions::both(cx, subject, &work.matched.kind, objects).await?;
        for denial in work.policy.validate(seen(cx, subject, work, new.as_ref(), old.as_ref())) {
            let (policy, binding) = (&work.policy.name, &work.binding.name);
            for action in &work.binding.actions {
                match action.as_str() {
                    "Deny" => refused.push(Refusal {
                        policy: Arc::clone(&work.policy),
                        binding: Some(Arc::clone(&work.binding)),
                        denial: denial.clone(),
                    }),
                    "Warn" => cx.warn(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                        denial.message
                    )),
                    _ => tracing::info!(%policy, %binding, message = %denial.message, "a policy's validation failed"),
                }
            }
        }
    }
    let Some(first) = refused.into_iter().next() else { return Ok(()) };
    let by = match &first.binding {
        Some(binding) => format!("'{}' with binding '{}'", first.policy.name, binding.name),
        None => format!("'{}'", first.policy.name),
    };
    let message = format!("ValidatingAdmissionPolicy {by} denied request: {}", first.denial.message);
    let mut status = forbidden(subject, objects, &message);
    let reason = if first.denial.reason.is_empty() { "Invalid".to_owned() } else { first.denial.reason };
    status.code = match reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    status.reason = reason.into();
    status.details.get_or_insert_default().causes.push(Cause { message, ..Cause::default() });
    Err(status)
}

/// A refusal that names the object as far as it has a name.
/// `kubernetes/apiserver pkg/admission/errors.go: NewForbidden`.
fn forbidden(subject: &Subject<'_>, objects: Objects<'_>, message: &str) -> Status {
    let resource = GroupResource::new(&*subject.resource.group, &*subject.resource.resource);
    let generated = objects.new.map(object::generate_name).unwrap_or_default();
    let name =
        [subject.name, generated].into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown/errorGettingName");
    Status::forbidden(&resource, name, message)
}

/// Lets the mutating policies change the object, one after another.
pub async fn mutate(
    cx: &Cx,
    subject: &Subject<'_>,
    new: &mut Value,
    old: Option<&Value>,
    rounds: &mut Memory,
) -> Result<(), Status> {
    let (found, mut refused) = at_work(cx, "mutatingadmissionpolicies", subject, Objects { new: Some(new), old });
    rounds.enter(new);
    for work in &found {
        let param = work.param.as_ref().map(|param| (object::namespace(param), object::name(param)));
        let id = format!("{}/{}/{param:?}", work.policy.name, work.binding.name);
        if rounds.skips(&id) {
            continue;
        }
        match mutated(cx, subject, work, new, old).await? {
            Ok(None) => continue,
            Ok(Some(object)) => {
                let changed = object != *new;
                *new = object;
                rounds.note(&id, changed, work.policy.again_if_needed);
            }
            Err(_) if work.policy.ignore_failures => {}
            Err(error) => refused.push(refusal(&work.policy, Some(&work.binding), error)),
        }
    }
    rounds.leave(new);
    if refused.is_empty() {
        return Ok(());
    }
    let mut status = forbidden(subject, Objects { new: Some(new), old }, "admission request denied by policy");
    let messages = refused.iter().map(|refusal| {
        let by = match &refusal.binding {
            Some(binding) => format!("policy '{}' with binding '{}'", refusal.policy.name, binding.name),
            None => format!("policy {:?}", refusal.policy.name),
        };
        format!("{by} denied request: {}", refusal.denial.message)
    });
    let causes: Vec<Cause> = messages.map(|message| Cause { message, ..Cause::default() }).collect();
    status.message = causes.first().map(|cause| cause.message.clone()).unwrap_or_default();
    status.reason = "Invalid".into();
    status.details.get_or_insert_default().causes.extend(causes);
    Err(status)
}

/// The object after one policy, in the request's version; `None` when the policy has no business with it.
async fn mutated(
    cx: &Cx,
    subject: &Subject<'_>,
    work: &AtWork,
    new: &Value,
    old: Option<&Value>,
) -> Result<Result<Option<Value>, String>, Status> {
    let (seen_new, seen_old) = versions::both(cx, subject, &work.matched.kind, Objects { new: Some(new), old }).await?;
    let seen_new = seen_new.unwrap_or(Value::Null);
    let kind = versions::kind_in(cx, &work.matched.kind);
    let schema = match &kind {
        Ok(kind) => kind.schema(),
        Err(_) => machinery::schema::Schema::any(),
    };
    let settle = |value: Value| versions::typed(kind.as_deref().ok(), value).map_err(|status| status.message);
    let variables = seen(cx, subject, work, Some(&seen_new), seen_old.as_ref());
    match work.policy.mutate(variables, &seen_new, &schema, &settle) {
        Ok(None) => Ok(Ok(None)),
        Err(error) => Ok(Err(error)),
        Ok(Some(object)) => Ok(Ok(Some(versions::back(cx, subject, &work.matched.kind, object).await?))),
    }
}
