//! PodResizeValidator: a pod is resized only to what its node can give.
//!
//! kubernetes/kubernetes plugin/pkg/admission/podresize/admission.go

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use machinery::object;
use machinery::quantity::Quantity;
use machinery::status::{Cause, Status};
use serde_json::Value;

use super::{Operation, Request, View};

pub fn validate(request: &Request, view: &dyn View, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let (Some(pod), Some(old)) = (new, old) else { return Ok(()) };
    let resize = request.is_of("", "pods", &["resize"]) && request.operation == Operation::Update;
    let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    // The generation counts changes of the specification.
    if !resize || name.is_empty() || object::generation(pod) == object::generation(old) {
        return Ok(());
    }
    let node = view.node(name).ok_or_else(|| request.forbidden(format_args!("node {name:?} not found")))?;
    if let Some(os) = node.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"))
        && os != "linux"
    {
        let words = format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
        return Err(refusal(request, &words, "UnsupportedPlatform"));
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let has = |name: &str| allocatable.and_then(|all| all.get(name)).and_then(|Text(text)| Quantity::parse(text).ok());
    let wanted = kinds::resources::PodResources::from(pod).requests();
    let mut short = Vec::new();
    for (name, unit) in [("cpu", Unit::Milli), ("memory", Unit::One)] {
        let has = has(name).unwrap_or_default();
        if let Some(wanted) = wanted.get(name).filter(|wanted| **wanted > has) {
            short.push(format!("{name}, requested: {}, allocatable: {}", unit.of(wanted), unit.of(&has)));
        }
    }
    if short.is_empty() {
        return Ok(());
    }
    let words = format!("node didn't have enough allocatable resources: {}", short.join("; "));
    Err(refusal(request, &words, "NodeCapacity"))
}

/// What an amount is told in.
#[derive(Clone, Copy)]
enum Unit {
    One,
    Milli,
}

impl Unit {
    fn of(self, amount: &Quantity) -> i64 {
        match self {
            Unit::One => amount.value(),
            Unit::Milli => amount.milli(),
        }
    }
}

fn refusal(request: &Request, words: &str, reason: &str) -> Status {
    let mut status = request.forbidden(words);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { reason: reason.to_owned(), ..Cause::default() });
    }
    status
}
