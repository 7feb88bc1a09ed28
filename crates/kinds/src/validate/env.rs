//! The environment of a container, and references to fields of the pod.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use super::At;
use super::resources::amount;
use super::volume::no_backsteps;

/// What the environment may name of the pod.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// What a file of a downward API volume may name of the pod.
pub const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
/// What has a name in the downward API but may not be asked for everywhere.
const OTHER_FIELDS: &[&str] = &["spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"];
const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const BYTE_DIVISORS: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

pub fn variables(at: &At, errors: &mut FieldErrors) {
    for variable in at.items() {
        let name = variable.field("name");
        if name.must_be_set(errors) {
            name.invalid_each(errors, names::env_var_name(name.text()));
        }
        if let Some(source) = variable.set("valueFrom") {
            value_from(&source, !variable.field("value").is_empty(), errors);
        }
    }
}

fn value_from(at: &At, has_value: bool, errors: &mut FieldErrors) {
    let mut sources = 0;
    for name in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let Some(source) = at.set(name) else { continue };
        sources += 1;
        match name {
            "fieldRef" => field_ref(&source, ENV_FIELDS, errors),
            "resourceFieldRef" => resource_field_ref(&source, false, errors),
            "fileKeyRef" => file_key(&source, errors),
            _ => object_key(&source, errors),
        }
    }
    let detail = match (sources, has_value) {
        (0, _) => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        (_, true) => "may not be specified when `value` is not empty",
        (1, false) => return,
        (_, false) => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(&at.path, "", detail));
}

/// `metadata.labels['app']` as path and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (path, key) = path.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

/// A reference to a field of the pod.
pub fn field_ref(at: &At, allowed: &[&str], errors: &mut FieldErrors) {
    let path = at.field("fieldPath");
    if !at.field("apiVersion").must_be_set(errors) || !path.must_be_set(errors) {
        return;
    }
    if !at.field("apiVersion").is("v1") {
        let detail = format!("error converting fieldPath: unsupported pod version: {}", at.field("apiVersion").text());
        return path.invalid(errors, detail);
    }
    match subscript(path.text()) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.invalid_each(&at.path, &key, names::qualified_name(&key));
        }
        Some(("metadata.labels", key)) => errors.invalid_each(&at.path, key, names::qualified_name(key)),
        Some(_) => {
            let detail = format!("error converting fieldPath: field label does not support subscript: {}", path.text());
            path.invalid(errors, detail);
        }
        None => {
            let known = |list: &[&str]| list.contains(&path.text());
            let text = if path.is("spec.host") { "spec.nodeName" } else { path.text() };
            if !known(ENV_FIELDS) && !known(VOLUME_FIELDS) && !known(OTHER_FIELDS) {
                path.invalid(errors, format!("error converting fieldPath: field label not supported: {text}"));
            } else if !allowed.contains(&text) {
                errors.push(FieldError::not_supported(&path.path, text, allowed));
            }
        }
    }
}

/// A reference to a container's requests or limits; a volume must say whose.
pub fn resource_field_ref(at: &At, in_volume: bool, errors: &mut FieldErrors) {
    let (container, resource) = (at.field("containerName"), at.field("resource"));
    let name = resource.text();
    let huge_pages = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if in_volume && container.is_empty() {
        container.required(errors, "");
    } else if resource.must_be_set(errors) && !huge_pages {
        resource.one_of(RESOURCES, errors);
    }
    let divisor = amount(at.field("divisor").value);
    if divisor.is_zero() {
        return;
    }
    let shown = divisor.to_string();
    let of = match name.split_once('.').map_or("", |(_, of)| of) {
        "cpu" if !["1m", "1"].contains(&shown.as_str()) => {
            let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
            return errors.push(FieldError::invalid(&at.path.child("divisor"), name, detail));
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        _ if huge_pages => "hugepages",
        _ => return,
    };
    if !BYTE_DIVISORS.contains(&shown.as_str()) {
        let detail = format!("only divisor's values {} are supported with the {of} resource", BYTE_DIVISORS.join(", "));
        errors.push(FieldError::invalid(&at.path.child("divisor"), name, detail));
    }
}

/// A key of a ConfigMap or Secret.
fn object_key(at: &At, errors: &mut FieldErrors) {
    let (name, key) = (at.field("name"), at.field("key"));
    name.invalid_each(errors, names::dns1123_subdomain(name.text()));
    if key.must_be_set(errors) {
        key.invalid_each(errors, names::config_map_key(key.text()));
    }
}

/// A variable in a file of an `emptyDir` volume.
fn file_key(at: &At, errors: &mut FieldErrors) {
    let [key, volume, path] = ["key", "volumeName", "path"].map(|name| at.field(name));
    if key.must_be_set(errors) {
        key.invalid_each(errors, names::env_var_name(key.text()));
    }
    if volume.must_be_set(errors) {
        volume.invalid_each(errors, names::dns1123_label(volume.text()));
    }
    if path.must_be_set(errors) {
        no_backsteps(&path, errors);
    }
}

pub fn sources(at: &At, errors: &mut FieldErrors) {
    for source in at.items() {
        let prefix = source.field("prefix");
        if !prefix.is_empty() {
            prefix.invalid_each(errors, names::env_var_name(prefix.text()));
        }
        let mut sources = 0;
        for of in ["configMapRef", "secretRef"] {
            let Some(reference) = source.set(of) else { continue };
            sources += 1;
            let name = reference.field("name");
            if name.must_be_set(errors) {
                let masked = names::mask_trailing_dash(name.text());
                name.invalid_each(errors, names::dns1123_subdomain(&masked));
            }
        }
        let detail = match sources {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(&at.path, "", detail));
    }
}
