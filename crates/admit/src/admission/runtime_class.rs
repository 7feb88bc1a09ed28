//! RuntimeClass: its overhead and its scheduling rules become the pod's.
//!
//! kubernetes/kubernetes plugin/pkg/admission/runtimeclass/admission.go

use machinery::status::Status;
use serde_json::{Value, json};

use super::{Operation, Request, View};

fn class_of(pod: &Value) -> Option<&str> {
    pod["spec"]["runtimeClassName"].as_str()
}

pub fn mutate(request: &Request, view: &dyn View, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "pods") || request.operation != Operation::Create {
        return Ok(());
    }
    let Some(name) = class_of(pod).map(str::to_owned) else { return Ok(()) };
    let missing = || request.forbidden(format_args!("pod rejected: RuntimeClass {name:?} not found"));
    let class = view.runtime_class(&name).ok_or_else(missing)?;
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    if let Some(fixed) = class.overhead.as_ref().and_then(|o| o.pod_fixed.as_ref()) {
        let wanted = json!(fixed);
        match spec.get("overhead").filter(|o| !o.is_null()) {
            Some(given) if *given != wanted => {
                return Err(
                    request.forbidden("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
                );
            }
            _ => spec.insert("overhead".to_owned(), wanted),
        };
    }
    let Some(scheduling) = &class.scheduling else { return Ok(()) };
    if let Some(selector) = &scheduling.node_selector {
        let own = spec.entry("nodeSelector").or_insert_with(|| json!({}));
        let Some(own) = own.as_object_mut() else { return Ok(()) };
        for (key, value) in selector {
            if own.get(key).is_some_and(|mine| mine.as_str() != Some(value)) {
                return Err(request.forbidden(format_args!(
                    "pod rejected: conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {}",
                    own[key].as_str().unwrap_or_default()
                )));
            }
            own.insert(key.clone(), json!(value));
        }
    }
    if let Some(tolerations) = &scheduling.tolerations {
        let own = spec.entry("tolerations").or_insert_with(|| json!([]));
        let Some(own) = own.as_array_mut() else { return Ok(()) };
        for toleration in tolerations.iter().map(|t| json!(t)) {
            if !own.contains(&toleration) {
                own.push(toleration);
            }
        }
    }
    Ok(())
}

pub fn validate(request: &Request, view: &dyn View, new: Option<&Value>, _: Option<&Value>) -> Result<(), Status> {
    if !request.is("", "pods") || request.operation != Operation::Create {
        return Ok(());
    }
    let Some(pod) = new else { return Ok(()) };
    let fixed = class_of(pod).and_then(|name| view.runtime_class(name)).and_then(|class| class.overhead.clone());
    let given = !pod["spec"]["overhead"].is_null();
    if given && fixed.is_none_or(|overhead| overhead.pod_fixed.is_none()) {
        return Err(
            request.forbidden("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
        );
    }
    Ok(())
}
