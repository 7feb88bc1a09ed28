//! `DaemonSet` (apps/v1): a pod on every node that fits.

use crate::columns::{
    age, column, column_of, container_images, container_names, label_selector, labels, name, named, number, wide,
    wide_of,
};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str, Subresource};
use crate::validate::selector::{self, is_empty_selector, selects};
use crate::validate::template::{Parts, does_not_match, pod_template, runs_for_ever, strategy_shown};
use crate::validate::{At, at_most_100_percent, int_or_percent, int_or_percent_value, nonnegative_fields};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use machinery::object;
use serde_json::{Value, json};

pub static DAEMON_SET: Kind = Declaration {
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short: &[Str::Borrowed("ds")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.DaemonSet",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    on_create: Some(on_create),
    on_update: Some(on_update),
    on_status_update: Some(on_status_update),
    columns: Some(COLUMNS),
    validate: Some(validate),
    warnings: Some(crate::validate::template::warnings),
    ..Declaration::NEW
}
.build();

fn validate(set: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(set, old);
    if let Some(spec) = &parts.spec {
        let (selector, template) = (spec.field("selector"), spec.field("template"));
        selector::label_selector(&selector, errors);
        if selects(&selector, template.fields(&["metadata", "labels"]).value) == Some(false) {
            does_not_match(&template, errors);
        }
        if selector.is_set() && is_empty_selector(&selector) {
            selector.invalid(errors, "empty selector is invalid for daemonset");
        }
        pod_template(&template, errors);
        runs_for_ever(&template, "DaemonSet", errors);
        nonnegative_fields(spec, &["minReadySeconds", "revisionHistoryLimit"], errors);
        strategy(&spec.field("updateStrategy"), errors);
    }
    parts.keeps(&["selector"], errors);
    if let Some(status) = &parts.status {
        let counts = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        nonnegative_fields(status, &counts, errors);
    }
}

fn strategy(at: &At, errors: &mut FieldErrors) {
    let rolling = at.field("rollingUpdate");
    match at.field("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            for bound in [&unavailable, &surge] {
                int_or_percent(bound, errors);
                at_most_100_percent(bound, errors);
            }
            match (int_or_percent_value(&unavailable) != 0, int_or_percent_value(&surge) != 0) {
                (true, true) => surge.invalid(errors, "may not be set when maxUnavailable is non-zero"),
                (false, false) => unavailable.required(errors, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => {
            let shown = strategy_shown(at, &[("MaxUnavailable", "maxUnavailable"), ("MaxSurge", "maxSurge")]);
            errors.push(FieldError::not_supported(&at.path, shown, &["RollingUpdate", "OnDelete"]));
        }
    }
}

fn defaults(set: &mut Value) {
    // What the old API had as a field is an annotation of every set.
    let generation = template_generation(set).to_string();
    object::annotations_mut(set).insert(TEMPLATE_GENERATION.to_owned(), Value::from(generation));
    let Some(spec) = set.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_missing(spec, "revisionHistoryLimit", 10);
    let Some(strategy) = nested(spec, "updateStrategy") else { return };
    set_unset(strategy, "type", "RollingUpdate");
    if strategy.get("type").is_some_and(|of| of == "RollingUpdate")
        && let Some(rolling) = nested(strategy, "rollingUpdate")
    {
        set_missing(rolling, "maxUnavailable", 1);
        set_missing(rolling, "maxSurge", 0);
    }
}

/// Counts changes of the template; a field in the old API, an annotation in this one.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(set: &Value) -> i64 {
    object::annotation(set, TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn on_create(set: &mut Value) {
    let generation = template_generation(set).max(1);
    object::annotations_mut(set).insert(TEMPLATE_GENERATION.to_owned(), json!(generation.to_string()));
}

fn on_update(set: &mut Value, old: &Value) {
    let changed = set["spec"]["template"] != old["spec"]["template"];
    let generation = template_generation(old) + i64::from(changed);
    object::annotations_mut(set).insert(TEMPLATE_GENERATION.to_owned(), json!(generation.to_string()));
}

/// The status says nothing of the template.
fn on_status_update(set: &mut Value, old: &Value) {
    let generation = template_generation(old).to_string();
    object::annotations_mut(set).insert(TEMPLATE_GENERATION.to_owned(), Value::from(generation));
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Desired", "integer", "io.k8s.api.apps.v1.DaemonSetStatus", "desiredNumberScheduled"),
        column_of("Current", "integer", "io.k8s.api.apps.v1.DaemonSetStatus", "currentNumberScheduled"),
        column_of("Ready", "integer", "io.k8s.api.apps.v1.DaemonSetStatus", "numberReady"),
        column_of("Up-to-date", "integer", "io.k8s.api.apps.v1.DaemonSetStatus", "updatedNumberScheduled"),
        column_of("Available", "integer", "io.k8s.api.apps.v1.DaemonSetStatus", "numberAvailable"),
        column_of("Node Selector", "string", "io.k8s.api.core.v1.PodSpec", "nodeSelector"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide_of("Selector", "string", "io.k8s.api.apps.v1.DaemonSetSpec", "selector"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(number(o, "/status/desiredNumberScheduled")),
        json!(number(o, "/status/currentNumberScheduled")),
        json!(number(o, "/status/numberReady")),
        json!(number(o, "/status/updatedNumberScheduled")),
        json!(number(o, "/status/numberAvailable")),
        labels(o, "/spec/template/spec/nodeSelector"),
        age(o, now),
        container_names(o, "/spec/template/spec/containers"),
        container_images(o, "/spec/template/spec/containers"),
        label_selector(o, "/spec/selector"),
    ]
}
