//! ResourceQuota: whether a namespace's quotas still have room for an object. What counts is in `kinds::quota`.
//!
//! kubernetes/kubernetes staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go: CheckRequest

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
pub use kinds::quota::Usage;
use kinds::quota::{Item, Write, concerns, in_scope, unsaid, usage};
use machinery::quantity::Quantity;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Request, View};

/// What a quota's `status.used` is with a request.
#[derive(Clone, Debug)]
pub struct Charge {
    pub quota: Arc<ResourceQuota>,
    pub used: Usage,
}

/// The sum of two usages.
pub fn plus(one: &Usage, other: &Usage) -> Usage {
    let mut sum = one.clone();
    for (name, amount) in other {
        sum.entry(name.clone()).and_modify(|sum| *sum += *amount).or_insert(*amount);
    }
    sum
}

/// A usage without another; nothing falls below zero.
pub fn minus(one: &Usage, other: &Usage) -> Usage {
    let mut left = one.clone();
    for (name, amount) in other {
        if let Some(has) = left.get_mut(name) {
            *has = if *has > *amount { *has - *amount } else { Quantity::ZERO };
        }
    }
    left
}

/// What the object adds to the quotas that take it in (as replacing `old`, if there is one); a refusal when one is
/// exceeded. The caller stores the charges together with the object, and asks again when another write came between.
pub fn admit(
    request: &Request,
    view: &dyn View,
    new: &Value,
    old: Option<&Value>,
    now: Timestamp,
) -> Result<Vec<Charge>, Status> {
    let quotas = view.quotas(request.namespace);
    let write = match request.operation {
        Operation::Create => Write::Create,
        Operation::Update => Write::Update,
        Operation::Delete | Operation::Connect => return Ok(Vec::new()),
    };
    if quotas.is_empty() {
        return Ok(Vec::new());
    }
    let read = |object: &Value| {
        Item::read(request.group, request.resource, object)
            .map_err(|error| Status::bad_request(format!("{} is not as its type: {error}", request.kind)))
    };
    let (item, before) = (read(new)?, old.map(read).transpose()?);
    if !item.charged(write, request.subresource, before.as_ref()) {
        return Ok(Vec::new());
    }
    let wanted = usage(request.group, request.resource, &item, now);
    let had = before.as_ref().map(|before| usage(request.group, request.resource, before, now));
    let mut charges = Vec::new();
    for quota in quotas {
        let hard = amounts(quota.status.as_ref().and_then(|s| s.hard.as_ref()));
        let used = amounts(quota.status.as_ref().and_then(|s| s.used.as_ref()));
        let name = quota.metadata.name.clone().unwrap_or_default();
        let limited: Vec<&String> =
            hard.keys().filter(|limit| concerns(limit, request.group, request.resource)).collect();
        if limited.is_empty() || !in_scope(&quota, &item) {
            continue;
        }
        must_be_said(request, &name, &limited, &item)?;
        if limited.iter().any(|limit| !used.contains_key(*limit)) {
            let names = limited.iter().map(|limit| limit.as_str()).collect::<Vec<_>>().join(",");
            return Err(request.forbidden(format_args!("status unknown for quota: {name}, resources: {names}")));
        }
        // What another quota counted before, because of its scope, is new to this one.
        let counted = had.as_ref().filter(|_| before.as_ref().is_some_and(|before| in_scope(&quota, before)));
        let mut added = counted.map_or_else(|| wanted.clone(), |had| minus(&wanted, had));
        added.retain(|resource, amount| hard.contains_key(resource) && amount.sign() > 0);
        if added.is_empty() {
            continue;
        }
        let total = plus(&used, &added);
        let over: Vec<&String> = added.keys().filter(|resource| total.get(*resource) > hard.get(*resource)).collect();
        if !over.is_empty() {
            let list = |from: &Usage| {
                let shown = |r: &&&String| from.get(**r).map_or("0".to_owned(), ToString::to_string);
                over.iter().map(|r| format!("{r}={}", shown(&r))).collect::<Vec<_>>().join(",")
            };
            return Err(request.forbidden(format_args!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                list(&added),
                list(&used),
                list(&hard)
            )));
        }
        charges.push(Charge { quota, used: total });
    }
    Ok(charges)
}

/// A quota on CPU or memory obliges every container to say what it wants.
fn must_be_said(request: &Request, quota: &str, limited: &[&String], item: &Item) -> Result<(), Status> {
    let Item::Pod(pod) = item else { return Ok(()) };
    let missing = unsaid(pod, limited.iter());
    if missing.is_empty() {
        return Ok(());
    }
    let listed: Vec<String> =
        missing.iter().map(|(resource, containers)| format!("{resource} for: {}", containers.join(","))).collect();
    Err(request.forbidden(format_args!("failed quota: {quota}: must specify {}", listed.join("; "))))
}

/// Written amounts, read.
pub fn amounts(map: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>) -> Usage {
    map.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}
