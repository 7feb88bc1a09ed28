//! Priority: a pod's priority class by name becomes its number.
//!
//! kubernetes/kubernetes plugin/pkg/admission/priority/admission.go

use machinery::status::Status;
use serde_json::{Map, Value, json};

use super::{Operation, Request, View};

pub fn mutate(request: &Request, view: &dyn View, pod: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "pods") {
        return Ok(());
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    if request.operation != Operation::Create {
        keep(spec, old);
        return Ok(());
    }
    let named = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let classes = view.priority_classes();
    let class = if named.is_empty() {
        let defaults = classes.iter().filter(|class| class.global_default == Some(true));
        defaults.min_by_key(|class| class.value)
    } else {
        let found = classes.iter().find(|class| class.metadata.name.as_deref() == Some(&named));
        Some(found.ok_or_else(|| request.forbidden(format_args!("no PriorityClass with name {named} was found")))?)
    };
    let value = class.and_then(|class| class.value).unwrap_or(0);
    let policy = class.and_then(|class| class.preemption_policy.clone());
    let policy = policy.unwrap_or_else(|| "PreemptLowerPriority".to_owned());
    if let Some(given) = spec.get("priority").and_then(Value::as_i64)
        && given != i64::from(value)
    {
        return Err(request.forbidden(format_args!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        )));
    }
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str)
        && given != policy
    {
        return Err(request.forbidden(format_args!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    if let Some(name) = class.and_then(|class| class.metadata.name.clone()) {
        spec.insert("priorityClassName".to_owned(), json!(name));
    }
    spec.insert("priority".to_owned(), json!(value));
    spec.insert("preemptionPolicy".to_owned(), json!(policy));
    Ok(())
}

/// An update that says nothing of what was computed leaves it as it is.
fn keep(spec: &mut Map<String, Value>, old: Option<&Value>) {
    for field in ["priority", "preemptionPolicy"] {
        if let Some(computed) = old.and_then(|old| old.get("spec")?.get(field))
            && spec.get(field).is_none_or(Value::is_null)
        {
            spec.insert(field.to_owned(), computed.clone());
        }
    }
}

/// At most one class is the default.
pub fn validate(request: &Request, view: &dyn View, new: Option<&Value>, _: Option<&Value>) -> Result<(), Status> {
    if !request.is("scheduling.k8s.io", "priorityclasses") {
        return Ok(());
    }
    let Some(new) = new.filter(|new| new["globalDefault"] == true) else { return Ok(()) };
    let name = new["metadata"]["name"].as_str();
    let other = view
        .priority_classes()
        .into_iter()
        .find(|c| c.global_default == Some(true) && c.metadata.name.as_deref() != name);
    match other.and_then(|class| class.metadata.name.clone()) {
        Some(other) => {
            Err(request.forbidden(format_args!("PriorityClass {other:?} is already marked as globalDefault")))
        }
        None => Ok(()),
    }
}
