//! What an update of a pod may change.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go ValidatePodUpdate`: the rules.

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use serde_json::{Map, Value};

use super::container::image_is_trimmed;
use super::pod_spec::pod_spec;
use super::template::pod_annotations;
use super::{At, immutable};
use crate::prepare::set_or_remove;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const DIFF_CONTEXT: usize = 3;
/// The annotation of a pod that shows a static one.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// A pod's metadata and spec, as they stand.
pub fn metadata_and_spec(pod: &Value, errors: &mut FieldErrors) {
    let at = At::root(pod);
    let spec = at.field("spec");
    pod_annotations(&at.fields(&["metadata", "annotations"]), &spec, errors);
    pod_spec(&spec, Some(pod), errors);
    if spec.field("serviceAccountName").is_empty() {
        for source in spec.field("volumes").items().flat_map(|volume| volume.fields(&["projected", "sources"]).items())
        {
            if let Some(token) = source.set("serviceAccountToken") {
                token.forbidden(errors, "must not be specified when serviceAccountName is not set");
            }
        }
    }
    super::nonnegative(&spec.field("terminationGracePeriodSeconds"), errors);
    for list in ["containers", "initContainers"] {
        spec.field(list).items().for_each(|container| image_is_trimmed(&container, errors));
    }
}

/// A pod against what it was.
pub fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    annotations(new, old, errors);
    let (spec, before) = (At::root(new).field("spec"), At::root(old).field("spec"));
    if spec.value == before.value {
        let annotations = At::root(new).fields(&["metadata", "annotations"]);
        if annotations.value != At::root(old).fields(&["metadata", "annotations"]).value {
            pod_annotations(&annotations, &spec, errors);
        }
        return;
    }
    metadata_and_spec(new, errors);
    for list in ["containers", "initContainers"] {
        let containers = spec.field(list);
        if containers.count() != before.field(list).count() {
            return containers.forbidden(errors, "pod updates may not add or remove containers");
        }
    }
    if !deadline(&spec.field("activeDeadlineSeconds"), &before.field("activeDeadlineSeconds"), errors) {
        return;
    }
    tolerations(&spec.field("tolerations"), &before.field("tolerations"), errors);
    scheduling_gates(&spec.field("schedulingGates"), &before.field("schedulingGates"), errors);
    let mut kept = spec.value.clone();
    if !before.field("schedulingGates").is_empty() {
        gated(&mut kept, &spec, &before, errors);
    }
    take_what_may_change(&mut kept, before.value);
    if kept != *before.value {
        let detail = format!("{UPDATABLE}\n{}", difference(before.value, &kept));
        errors.push(FieldError::forbidden(&spec.path, detail));
    }
}

fn annotations(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let path = Path::new("metadata").child("annotations").key(MIRROR);
    let of = |pod: &Value| machinery::object::annotations(pod).and_then(|all| all.get(MIRROR)).cloned();
    let detail = match (of(new), of(old)) {
        (Some(_), None) => "may not add mirror pod annotation",
        (now, Some(before)) if now.as_ref() != Some(&before) => "may not remove or update mirror pod annotation",
        _ => return,
    };
    errors.push(FieldError::forbidden(&path, detail));
}

/// The deadline only comes nearer; says whether the rest is to be looked at.
fn deadline(new: &At, old: &At, errors: &mut FieldErrors) -> bool {
    match (new.is_set(), old.is_set()) {
        (true, _) if !(0..=i64::from(i32::MAX)).contains(&new.int()) => {
            new.invalid(errors, names::inclusive_range_error(0, i64::from(i32::MAX)));
            false
        }
        (true, true) if old.int() < new.int() => {
            new.invalid(errors, "must be less than or equal to previous value");
            false
        }
        (false, true) => {
            new.invalid(errors, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn tolerations(new: &At, old: &At, errors: &mut FieldErrors) {
    let without_time = |toleration: &At| {
        let mut value = toleration.value.clone();
        set_or_remove(&mut value, &["tolerationSeconds"], None);
        value
    };
    let now: Vec<Value> = new.items().map(|toleration| without_time(&toleration)).collect();
    if old.items().any(|toleration| !now.contains(&without_time(&toleration))) {
        new.forbidden(errors, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn scheduling_gates(new: &At, old: &At, errors: &mut FieldErrors) {
    for gate in new.items().filter(|gate| !old.items().any(|known| known.value == gate.value)) {
        let name = gate.field("name");
        let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
        name.forbidden(errors, detail);
    }
}

/// A pod that waits at a gate may still be told more closely where to go.
fn gated(kept: &mut Value, new: &At, old: &At, errors: &mut FieldErrors) {
    let (selector, before) = (new.field("nodeSelector"), old.field("nodeSelector"));
    if before.entries().any(|(key, value)| selector.value.get(key) != Some(value.value)) {
        selector.invalid(errors, "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    }
    set_or_remove(kept, &["nodeSelector"], old.value.get("nodeSelector").cloned());
    let terms = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    let (terms, before) = (new.fields(&terms), old.fields(&terms));
    if before.count() > 0 && before.count() != terms.count() {
        terms.invalid(errors, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    } else {
        for (term, before) in terms.items().zip(before.items()) {
            if !only_adds(&term, &before) {
                term.invalid(errors, "only additions are allowed (no mutations or deletions)");
            }
        }
    }
    let affinity = old.fields(&["affinity", "nodeAffinity"]).value.clone();
    set_or_remove(kept, &["affinity", "nodeAffinity"], Some(affinity).filter(|value| !value.is_null()));
    let emptied = kept["affinity"].as_object().is_some_and(Map::is_empty);
    if emptied && !old.field("affinity").is_set() {
        set_or_remove(kept, &["affinity"], None);
    }
}

fn only_adds(term: &At, before: &At) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    if lists.iter().all(|list| before.field(list).is_empty()) {
        return lists.iter().all(|list| term.field(list).is_empty());
    }
    lists.iter().all(|list| {
        let (now, known) = (term.field(list), before.field(list));
        now.count() >= known.count() && now.items().zip(known.items()).all(|(now, known)| now.value == known.value)
    })
}

/// Puts back what an update may change, so that only the rest can differ.
fn take_what_may_change(kept: &mut Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        let images = old[list].as_array().into_iter().flatten().map(|container| container.get("image").cloned());
        for (container, image) in kept[list].as_array_mut().into_iter().flatten().zip(images) {
            set_or_remove(container, &["image"], image);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        set_or_remove(kept, &[field], old.get(field).cloned());
    }
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(kept) == Some(1) {
        set_or_remove(kept, &["terminationGracePeriodSeconds"], old.get("terminationGracePeriodSeconds").cloned());
    }
    // What indexing an absent list left behind.
    if let Some(fields) = kept.as_object_mut() {
        fields.retain(|name, value| !value.is_null() || old.get(name).is_some());
    }
}

/// A pod's new status against the old one.
pub fn status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (pod, status, before) = (At::root(new), At::root(new).field("status"), At::root(old).field("status"));
    if status.value == before.value {
        return;
    }
    let nominated = status.field("nominatedNodeName");
    if !nominated.is_empty() && nominated.value != before.field("nominatedNodeName").value {
        nominated.invalid_each(errors, names::dns1123_subdomain(nominated.text()));
        if !pod.fields(&["spec", "nodeName"]).is_empty() {
            nominated.forbidden(errors, "may not be set on pods that are already bound to a node");
        }
    }
    if status.field("observedGeneration").int() < 0 {
        status.field("observedGeneration").invalid(errors, "must be a non-negative integer");
    }
    immutable(&status.field("qosClass"), &before.field("qosClass"), errors);
    addresses(&status, &before, errors);
}

fn addresses(status: &At, before: &At, errors: &mut FieldErrors) {
    let (one, many) = (status.field("podIP"), status.field("podIPs"));
    let ips = |status: &At| -> Vec<String> {
        status.field("podIPs").items().map(|ip| ip.field("ip").text().to_owned()).collect()
    };
    let known = ips(before);
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    for ip in many.items() {
        super::ip(&ip.path, ip.field("ip").text(), &known, errors);
    }
    if one.is_empty() != many.is_empty() {
        many.invalid(errors, "podIP and podIPs must either both be set or both be unset");
    } else if let Some(first) = many.items().next().map(|ip| ip.field("ip"))
        && !first.is(one.text())
    {
        first.invalid(errors, "must be equal to `podIP`");
    }
}

/// Ephemeral containers are only ever added.
pub fn ephemeral_containers(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if machinery::object::annotation(old, MIRROR).is_some() {
        errors.0.clear();
        let refusal = "static pods do not support ephemeral containers";
        return errors.push(FieldError::forbidden(&Path::new(""), refusal));
    }
    metadata_and_spec(new, errors);
    annotations(new, old, errors);
    let list = At::root(new).fields(&["spec", "ephemeralContainers"]);
    let before = At::root(old).fields(&["spec", "ephemeralContainers"]);
    for known in before.items() {
        let name = known.field("name").text();
        match list.items().find(|container| container.field("name").is(name)) {
            None => list.forbidden(errors, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(container) if container.value != known.value => {
                let difference = difference(known.value, container.value);
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{difference}");
                list.forbidden(errors, detail);
            }
            Some(_) => {}
        }
    }
}

/// What became of the lines of a value, as `diff -u` shows it.
pub fn difference(old: &Value, new: &Value) -> String {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same_start;
    let same_end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let start = same_start.saturating_sub(DIFF_CONTEXT);
    let (old_end, new_end) = (old.len() - same_end, new.len() - same_end);
    let after = same_end.min(DIFF_CONTEXT);
    let (old_count, new_count) = (old_end + after - start, new_end + after - start);
    let mut out = format!("@@ -{},{old_count} +{},{new_count} @@\n", start + 1, start + 1);
    let mut add = |sign: char, lines: &[&str]| lines.iter().for_each(|line| out.push_str(&format!("{sign}{line}\n")));
    add(' ', &old[start..same_start]);
    add('-', &old[same_start..old_end]);
    add('+', &new[same_start..new_end]);
    add(' ', &old[old_end..old_end + after]);
    out
}
