//! `StatefulSet` (apps/v1): pods with stable names and storage.

use crate::columns::{age, column, container_images, container_names, name, named, number, wide};
use crate::defaults::{existing, nested, objects, set_missing, set_unset, text_of};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, NameRule, ScalePaths, Str, Subresource};
use crate::validate::claim;
use crate::validate::selector::{is_empty_selector, label_selector, selects};
use crate::validate::template::{Parts, does_not_match, pod_template, replica_counts, runs_for_ever, strategy_shown};
use crate::validate::{
    At, at_most_100_percent, counts_within, int_or_percent, int_or_percent_value, nonnegative, nonnegative_fields,
    shown,
};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::json;
use serde_json::{Map, Value};

pub static STATEFUL_SET: Kind = Declaration {
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short: &[Str::Borrowed("sts")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.StatefulSet",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpec,
    name_rule: NameRule::Label,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    validate: Some(validate),
    warnings: Some(crate::validate::template::warnings),
    ..Declaration::NEW
}
.build();

fn validate(set: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(set, old);
    if let Some(spec) = &parts.spec {
        let policy = spec.field("podManagementPolicy");
        if policy.must_be_set(errors) && !["OrderedReady", "Parallel"].contains(&policy.text()) {
            policy.invalid(errors, "must be 'OrderedReady' or 'Parallel'");
        }
        strategy(&spec.field("updateStrategy"), errors);
        for when in ["whenDeleted", "whenScaled"] {
            let policy = spec.fields(&["persistentVolumeClaimRetentionPolicy", when]);
            policy.one_of(&["Retain", "Delete"], errors);
        }
        for template in spec.field("volumeClaimTemplates").items() {
            claim::spec(&template.field("spec"), errors);
        }
        replica_counts(spec, errors);
        let start = spec.fields(&["ordinals", "start"]);
        nonnegative(&start, errors);
        let service = spec.field("serviceName");
        if !service.is_empty() {
            service.invalid_each(errors, names::dns1123_label(service.text()));
        }
        selector_and_template(spec, errors);
    }
    parts.keeps(&["selector", "volumeClaimTemplates", "serviceName", "podManagementPolicy"], errors);
    if let Some(status) = &parts.status {
        let counts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        nonnegative_fields(status, &["replicas"], errors);
        nonnegative_fields(status, &counts, errors);
        nonnegative_fields(status, &["observedGeneration", "collisionCount"], errors);
        counts_within(status, &counts, "replicas", "status.replicas", errors);
        counts_within(status, &["availableReplicas"], "readyReplicas", "status.readyReplicas", errors);
    }
}

fn strategy(at: &At, errors: &mut FieldErrors) {
    let (of, rolling) = (at.field("type"), at.field("rollingUpdate"));
    match of.text() {
        "" => at.required(errors, ""),
        "OnDelete" => {
            if rolling.is_set() {
                let shown = shown(format!(
                    "{{\"Partition\":{},\"MaxUnavailable\":{}}}",
                    rolling.field("partition").int(),
                    rolling.field("maxUnavailable").value
                ));
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.push(FieldError::invalid(&rolling.path, shown, detail));
            }
        }
        "RollingUpdate" => {
            nonnegative(&rolling.field("partition"), errors);
            if let Some(unavailable) = rolling.set("maxUnavailable") {
                int_or_percent(&unavailable, errors);
                if int_or_percent_value(&unavailable) == 0 {
                    unavailable.invalid(errors, "cannot be 0");
                }
                at_most_100_percent(&unavailable, errors);
            }
        }
        _ => {
            let shown = strategy_shown(at, &[("Partition", "partition"), ("MaxUnavailable", "maxUnavailable")]);
            errors.push(FieldError::invalid(&at.path, shown, "must be 'RollingUpdate' or 'OnDelete'"));
        }
    }
}

fn selector_and_template(spec: &At, errors: &mut FieldErrors) {
    let (selector, template) = (spec.field("selector"), spec.field("template"));
    if selector.is_set() {
        label_selector(&selector, errors);
        if is_empty_selector(&selector) {
            selector.invalid(errors, "empty selector is invalid for statefulset");
        }
    } else {
        selector.required(errors, "");
    }
    match selects(&selector, template.fields(&["metadata", "labels"]).value) {
        None => selector.invalid(errors, ""),
        Some(selected) => {
            if !selected {
                does_not_match(&template, errors);
            }
            let pods = as_pods_get_it(&template, &spec.field("volumeClaimTemplates"));
            pod_template(&At { value: &pods, path: template.path.clone() }, errors);
        }
    }
    runs_for_ever(&template, "StatefulSet", errors);
}

/// The controller sets hostname and subdomain, and makes a volume of every claim.
fn as_pods_get_it(template: &At, claims: &At) -> Value {
    let mut pods = template.value.clone();
    let Some(spec) = pods.get_mut("spec").and_then(Value::as_object_mut) else { return pods };
    spec.remove("hostname");
    spec.remove("subdomain");
    let names: Vec<&str> = claims.items().map(|claim| claim.fields(&["metadata", "name"]).text()).collect();
    let claimed = names.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let kept = template.fields(&["spec", "volumes"]).items();
    let kept = kept.filter(|volume| !names.contains(&volume.field("name").text())).map(|volume| volume.value.clone());
    let volumes: Vec<Value> = claimed.chain(kept).collect();
    spec.insert("volumes".to_owned(), Value::Array(volumes));
    pods
}

fn defaults(set: &mut Value) {
    let Some(spec) = set.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_unset(spec, "podManagementPolicy", "OrderedReady");
    set_missing(spec, "replicas", 1);
    set_missing(spec, "revisionHistoryLimit", 10);
    for claim in objects(spec, "volumeClaimTemplates") {
        set_unset(claim, "apiVersion", "v1");
        set_unset(claim, "kind", "PersistentVolumeClaim");
    }
    if let Some(strategy) = nested(spec, "updateStrategy") {
        if text_of(strategy, "type").is_empty() {
            set_unset(strategy, "type", "RollingUpdate");
            set_missing(strategy, "rollingUpdate", Map::new());
        }
        if text_of(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = existing(strategy, "rollingUpdate")
        {
            set_missing(rolling, "partition", 0);
            set_missing(rolling, "maxUnavailable", 1);
        }
    }
    if let Some(retention) = nested(spec, "persistentVolumeClaimRetentionPolicy") {
        set_unset(retention, "whenDeleted", "Retain");
        set_unset(retention, "whenScaled", "Retain");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Ready", "string"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas"))),
        age(o, now),
        container_names(o, "/spec/template/spec/containers"),
        container_images(o, "/spec/template/spec/containers"),
    ]
}
