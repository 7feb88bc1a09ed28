//! `ReplicaSet` (apps/v1): keeps a number of equal pods running.

use crate::columns::{
    age, column, column_of, container_images, container_names, label_selector, name, named, number, wide, wide_of,
};
use crate::defaults::{nested, set_missing};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, ScalePaths, Str, Subresource};
use crate::validate::template::{Controller, Parts, replica_counts, replica_status, selector_and_template};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static REPLICA_SET: Kind = Declaration {
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short: &[Str::Borrowed("rs")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.ReplicaSet",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpec,
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
        replica_counts(spec, errors);
        let of = Controller { shown: "ReplicaSet", empty_selector: "deployment" };
        selector_and_template(spec, &of, errors);
    }
    parts.keeps(&["selector"], errors);
    if let Some(status) = &parts.status {
        replica_status(status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
    }
}

fn defaults(set: &mut Value) {
    if let Some(spec) = set.as_object_mut().and_then(|fields| nested(fields, "spec")) {
        set_missing(spec, "replicas", 1);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Desired", "integer", "io.k8s.api.apps.v1.ReplicaSetSpec", "replicas"),
        column_of("Current", "integer", "io.k8s.api.apps.v1.ReplicaSetStatus", "replicas"),
        column_of("Ready", "integer", "io.k8s.api.apps.v1.ReplicaSetStatus", "readyReplicas"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide_of("Selector", "string", "io.k8s.api.apps.v1.ReplicaSetSpec", "selector"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(number(o, "/spec/replicas")),
        json!(number(o, "/status/replicas")),
        json!(number(o, "/status/readyReplicas")),
        age(o, now),
        container_names(o, "/spec/template/spec/containers"),
        container_images(o, "/spec/template/spec/containers"),
        label_selector(o, "/spec/selector"),
    ]
}
