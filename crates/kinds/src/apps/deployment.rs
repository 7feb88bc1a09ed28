//! `Deployment` (apps/v1): a ReplicaSet for each revision of its pod template, exchanged at a bounded rate.

use crate::columns::{age, column, container_images, container_names, name, named, number, selector_text, wide};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, ScalePaths, Str, Subresource};
use jiff::Timestamp;
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
    ..Declaration::NEW
}
.build();

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
        column("Up-to-date", "string"),
        column("Available", "string"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide("Selector", "string"),
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
