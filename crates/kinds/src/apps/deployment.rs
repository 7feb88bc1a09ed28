//! `Deployment` (apps/v1): a ReplicaSet for each revision of its pod template, exchanged at a bounded rate.

use crate::columns::{
    age, column, column_of, container_images, container_names, name, named, number, selector_text, wide, wide_of,
};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, ScalePaths, Str, Subresource};
use crate::validate::template::{Controller, Parts, replica_status, selector_and_template, strategy_shown};
use crate::validate::{
    At, at_most_100_percent, int_or_percent, int_or_percent_value, nonnegative, nonnegative_fields, not_decremented,
};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors};
use serde_json::Value;
use serde_json::json;

pub static DEPLOYMENT: Kind = Declaration {
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short: &[Str::Borrowed("deploy")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.Deployment",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpecAndAnnotations,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    on_status_update: Some(on_status_update),
    columns: Some(COLUMNS),
    validate: Some(validate),
    warnings: Some(crate::validate::template::warnings),
    ..Declaration::NEW
}
.build();

fn validate(deployment: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(deployment, old);
    if let Some(spec) = &parts.spec {
        nonnegative_fields(spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], errors);
        let of = Controller { shown: "ReplicaSet", empty_selector: "deployment" };
        selector_and_template(spec, &of, errors);
        strategy(&spec.field("strategy"), errors);
        let deadline = spec.field("progressDeadlineSeconds");
        nonnegative(&deadline, errors);
        if deadline.is_set() && deadline.int() <= spec.field("minReadySeconds").int() {
            deadline.invalid(errors, "must be greater than minReadySeconds");
        }
    }
    parts.keeps(&["selector"], errors);
    if let Some(status) = &parts.status {
        replica_status(status, &["updatedReplicas", "readyReplicas", "availableReplicas"], errors);
        nonnegative_fields(status, &["unavailableReplicas", "collisionCount"], errors);
        if let Some(old) = &parts.old_status {
            not_decremented(&status.field("collisionCount"), &old.field("collisionCount"), errors);
        }
    }
}

fn strategy(at: &At, errors: &mut FieldErrors) {
    let (of, rolling) = (at.field("type"), at.field("rollingUpdate"));
    match of.text() {
        "Recreate" => {
            if rolling.is_set() {
                rolling.forbidden(errors, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            int_or_percent(&unavailable, errors);
            int_or_percent(&surge, errors);
            if int_or_percent_value(&unavailable) == 0 && int_or_percent_value(&surge) == 0 {
                unavailable.invalid(errors, "may not be 0 when `maxSurge` is 0");
            }
            at_most_100_percent(&unavailable, errors);
        }
        _ => {
            let shown = strategy_shown(at, &[("MaxUnavailable", "maxUnavailable"), ("MaxSurge", "maxSurge")]);
            errors.push(FieldError::not_supported(&at.path, shown, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn defaults(deployment: &mut Value) {
    let Some(spec) = deployment.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_missing(spec, "replicas", 1);
    set_missing(spec, "revisionHistoryLimit", 10);
    set_missing(spec, "progressDeadlineSeconds", 600);
    let Some(strategy) = nested(spec, "strategy") else { return };
    set_unset(strategy, "type", "RollingUpdate");
    if strategy.get("type").is_some_and(|of| of == "RollingUpdate")
        && let Some(rolling) = nested(strategy, "rollingUpdate")
    {
        set_missing(rolling, "maxUnavailable", "25%");
        set_missing(rolling, "maxSurge", "25%");
    }
}

/// A status update leaves the labels alone.
fn on_status_update(deployment: &mut Value, old: &Value) {
    let labels = old["metadata"].get("labels").cloned();
    crate::prepare::set_or_remove(deployment, &["metadata", "labels"], labels);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Ready", "string"),
        column_of("Up-to-date", "string", "io.k8s.api.apps.v1.DeploymentStatus", "updatedReplicas"),
        column_of("Available", "string", "io.k8s.api.apps.v1.DeploymentStatus", "availableReplicas"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide_of("Selector", "string", "io.k8s.api.apps.v1.DeploymentSpec", "selector"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas"))),
        json!(number(o, "/status/updatedReplicas")),
        json!(number(o, "/status/availableReplicas")),
        age(o, now),
        container_names(o, "/spec/template/spec/containers"),
        container_images(o, "/spec/template/spec/containers"),
        json!(selector_text(o, "/spec/selector")),
    ]
}
