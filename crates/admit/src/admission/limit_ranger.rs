//! LimitRanger: default requests and limits of a namespace, and its bounds for containers, pods and claims.
//!
//! kubernetes/kubernetes plugin/pkg/admission/limitranger/admission.go

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRangeItem, PersistentVolumeClaim, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::quantity::Quantity;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Request, View, containers_mut, decode};

type Amounts = BTreeMap<String, Quantity>;

fn items<'a>(
    ranges: &'a [std::sync::Arc<k8s_openapi::api::core::v1::LimitRange>],
    kind: &'a str,
) -> impl Iterator<Item = &'a LimitRangeItem> {
    ranges
        .iter()
        .filter_map(|range| range.spec.as_ref())
        .flat_map(|spec| &spec.limits)
        .filter(move |item| item.type_ == kind)
}

fn amounts(map: Option<&BTreeMap<String, Text>>) -> Amounts {
    map.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}

/// Pods are looked at when their containers get their resources: as they are made, and as they are resized.
fn concerns_pod(request: &Request) -> bool {
    match request.operation {
        Operation::Create => request.is("", "pods"),
        Operation::Update => request.is_of("", "pods", &["resize"]),
        _ => false,
    }
}

/// Fills in requests and limits that containers leave open.
pub fn defaults(request: &Request, view: &dyn View, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !concerns_pod(request) {
        return Ok(());
    }
    let ranges = view.limit_ranges(request.namespace);
    let mut notes = Vec::new();
    for range in &ranges {
        let one = std::slice::from_ref(range);
        for item in items(one, "Container") {
            for container in containers_mut(pod) {
                let name = container["name"].as_str().unwrap_or_default().to_owned();
                let set = [("requests", &item.default_request, "request"), ("limits", &item.default, "limit")]
                    .into_iter()
                    .filter_map(|(list, values, word)| {
                        let filled = fill(container, list, values.as_ref()?);
                        (!filled.is_empty()).then(|| format!("{} {word} for container {name}", filled.join(", ")))
                    });
                notes.extend(set);
            }
        }
    }
    if !notes.is_empty() {
        let text = format!("LimitRanger plugin set: {}", notes.join("; "));
        machinery::object::annotations_mut(pod).insert("kubernetes.io/limit-ranger".to_owned(), json!(text));
    }
    Ok(())
}

fn fill(container: &mut Value, list: &str, values: &BTreeMap<String, Text>) -> Vec<String> {
    let Some(container) = container.as_object_mut() else { return Vec::new() };
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    let Some(own) = resources.as_object_mut().map(|r| r.entry(list).or_insert_with(|| json!({}))) else {
        return Vec::new();
    };
    let Some(own) = own.as_object_mut() else { return Vec::new() };
    let mut filled = Vec::new();
    for (name, value) in values {
        if !own.contains_key(name) {
            own.insert(name.clone(), json!(value.0));
            filled.push(name.clone());
        }
    }
    filled
}

/// Refuses what is outside the bounds.
pub fn validate(request: &Request, view: &dyn View, new: Option<&Value>, _: Option<&Value>) -> Result<(), Status> {
    let Some(new) = new else { return Ok(()) };
    let mut refusals = Vec::new();
    if request.is("", "persistentvolumeclaims") {
        let claim: PersistentVolumeClaim = decode(request, new)?;
        let resources = claim.spec.and_then(|spec| spec.resources).unwrap_or_default();
        let requests = amounts(resources.requests.as_ref());
        let ranges = view.limit_ranges(request.namespace);
        for item in items(&ranges, "PersistentVolumeClaim") {
            check_bounds(item, "PersistentVolumeClaim", &requests, &Amounts::new(), &mut refusals);
        }
    } else if concerns_pod(request) {
        let pod: Pod = decode(request, new)?;
        check_pod(request, view, &pod, &mut refusals);
    }
    if refusals.is_empty() {
        return Ok(());
    }
    let words = if refusals.len() == 1 { refusals.remove(0) } else { format!("[{}]", refusals.join(", ")) };
    Err(request.forbidden(words))
}

fn check_pod(request: &Request, view: &dyn View, pod: &Pod, refusals: &mut Vec<String>) {
    let ranges = view.limit_ranges(request.namespace);
    let Some(spec) = pod.spec.as_ref() else { return };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in containers {
        let (requests, limits) = of(container.resources.as_ref());
        for item in items(&ranges, "Container") {
            check_bounds(item, "Container", &requests, &limits, refusals);
        }
    }
    let mut total = (Amounts::new(), Amounts::new());
    for container in &spec.containers {
        let (requests, limits) = of(container.resources.as_ref());
        combine(&mut total.0, requests, |a, b| a + b);
        combine(&mut total.1, limits, |a, b| a + b);
    }
    for container in spec.init_containers.iter().flatten() {
        let (requests, limits) = of(container.resources.as_ref());
        combine(&mut total.0, requests, Ord::max);
        combine(&mut total.1, limits, Ord::max);
    }
    for item in items(&ranges, "Pod") {
        check_bounds(item, "Pod", &total.0, &total.1, refusals);
    }
}

fn of(resources: Option<&ResourceRequirements>) -> (Amounts, Amounts) {
    let requests = amounts(resources.and_then(|r| r.requests.as_ref()));
    let limits = amounts(resources.and_then(|r| r.limits.as_ref()));
    (requests, limits)
}

fn combine(into: &mut Amounts, from: Amounts, with: impl Fn(Quantity, Quantity) -> Quantity) {
    for (name, amount) in from {
        let sum = match into.remove(&name) {
            Some(before) => with(before, amount),
            None => amount,
        };
        into.insert(name, sum);
    }
}

fn check_bounds(item: &LimitRangeItem, kind: &str, requests: &Amounts, limits: &Amounts, refusals: &mut Vec<String>) {
    for (name, least) in amounts(item.min.as_ref()) {
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => refusals.push(format!("minimum {name} usage per {kind} is {least}.  No request is specified")),
            (Some(request), _) if *request < least => {
                refusals.push(format!("minimum {name} usage per {kind} is {least}, but request is {request}"));
            }
            (_, Some(limit)) if *limit < least => {
                refusals.push(format!("minimum {name} usage per {kind} is {least}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, most) in amounts(item.max.as_ref()) {
        // A claim has requests only.
        let claim = kind == "PersistentVolumeClaim";
        match (requests.get(&name), limits.get(&name)) {
            (Some(request), _) if claim && *request > most => {
                refusals.push(format!("maximum {name} usage per {kind} is {most}, but request is {request}"));
            }
            _ if claim => {}
            (_, None) => refusals.push(format!("maximum {name} usage per {kind} is {most}.  No limit is specified")),
            (_, Some(limit)) if *limit > most => {
                refusals.push(format!("maximum {name} usage per {kind} is {most}, but limit is {limit}"));
            }
            (Some(request), _) if *request > most => {
                refusals.push(format!("maximum {name} usage per {kind} is {most}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, ratio) in amounts(item.max_limit_request_ratio.as_ref()) {
        let (request, limit) = (requests.get(&name), limits.get(&name));
        match (request.filter(|r| !r.is_zero()), limit.filter(|l| !l.is_zero())) {
            (Some(request), Some(limit)) => {
                let found = limit.as_f64() / request.as_f64();
                if found > ratio.as_f64() {
                    refusals.push(format!(
                        "{name} max limit to request ratio per {kind} is {ratio}, but provided ratio is {found:.6}"
                    ));
                }
            }
            (None, _) => refusals.push(format!(
                "{name} max limit to request ratio per {kind} is {ratio}, but no request is specified or request is 0"
            )),
            (_, None) => refusals.push(format!(
                "{name} max limit to request ratio per {kind} is {ratio}, but no limit is specified or limit is 0"
            )),
        }
    }
}
