//! `LimitRange` (v1): bounds and defaults of resources within a namespace.

use crate::kind::{Declaration, Kind, Str};
use crate::validate::{At, resources};
use machinery::field::{FieldError, FieldErrors};
use machinery::{names, object};
use serde_json::Value;

pub static LIMIT_RANGE: Kind = Declaration {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short: &[Str::Borrowed("limits")],
    schema: "io.k8s.api.core.v1.LimitRange",
    unconditional_update: true,
    create_on_update: true,
    validate: Some(validate),
    on_create: Some(on_create),
    ..Declaration::NEW
}
.build();

/// A range that nobody named takes a name that nobody else has.
fn on_create(range: &mut Value) {
    if object::name(range).is_empty() {
        let uid = object::uid(range).to_owned();
        object::set_name(range, &uid);
    }
}

fn validate(range: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for limit in At::root(range).fields(&["spec", "limits"]).items() {
        let of = limit.field("type");
        let complaints = names::qualified_name(of.text());
        if !complaints.is_empty() {
            of.invalid_each(errors, complaints);
        } else if !of.text().contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&of.text()) {
            of.invalid(errors, "must be a standard limit type or fully qualified");
        }
        if seen.contains(&of.text()) {
            of.duplicate(errors);
        }
        seen.push(of.text());
        limit_names(&limit, errors);
        let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
        let mut keys: Vec<&str> =
            lists.iter().flat_map(|list| limit.field(list).entries()).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.iter().for_each(|key| amounts(&limit, key, errors));
    }
}

fn limit_names(limit: &At, errors: &mut FieldErrors) {
    let of = limit.field("type").text();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let entries = limit.field(list);
        if of == "Pod" && matches!(list, "default" | "defaultRequest") {
            if !entries.is_empty() {
                entries.forbidden(errors, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, entry) in entries.entries() {
            if matches!(of, "Pod" | "Container") {
                resources::container_resource_name(name, &entry, errors);
            } else {
                resources::resource_name(name, &entry, errors);
            }
        }
    }
    let bounds = [limit.fields(&["min", "storage"]), limit.fields(&["max", "storage"])];
    if of == "PersistentVolumeClaim" && !bounds.iter().any(At::is_set) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        limit.field("limits").required(errors, detail);
    }
}

/// The amounts for one resource, against each other.
fn amounts(limit: &At, key: &str, errors: &mut FieldErrors) {
    let of_pod = limit.field("type").is("Pod");
    let get = |list: &str| {
        let hidden = of_pod && list.starts_with("default");
        limit.field(list).set(key).filter(|_| !hidden).map(|entry| resources::amount(entry.value))
    };
    let [min, max, default, request, ratio] =
        ["min", "max", "default", "defaultRequest", "maxLimitRequestRatio"].map(get);
    // Which list reports which amount, when the first of a pair exceeds the second, and what the two are called.
    let rules = [
        ("min", min, min, max, "min value", "max value"),
        ("defaultRequest", request, min, request, "min value", "default request value"),
        ("defaultRequest", request, request, max, "default request value", "max value"),
        ("defaultRequest", request, request, default, "default request value", "default limit value"),
        ("default", min, min, default, "min value", "default value"),
        ("default", max, default, max, "default value", "max value"),
    ];
    for (list, shown, low, high, low_name, high_name) in rules {
        if let (Some(shown), Some(low), Some(high)) = (shown, low, high)
            && low > high
        {
            let detail = format!("{low_name} {low} is greater than {high_name} {high}");
            let path = limit.field(list).path.key(key);
            errors.push(FieldError::invalid(&path, shown.to_string(), detail));
        }
    }
    let path = limit.field("maxLimitRequestRatio").path.key(key);
    let Some(ratio) = ratio else { return };
    if ratio.milli() < 1000 {
        errors.push(FieldError::invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1")));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let most = max.as_f64() / min.as_f64();
        if ratio.as_f64() > most {
            let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.push(FieldError::invalid(&path, ratio.to_string(), detail));
        }
    }
}
