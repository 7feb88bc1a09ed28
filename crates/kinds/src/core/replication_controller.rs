//! `ReplicationController` (v1): the older form of ReplicaSet.

use crate::columns::{
    age, column, column_of, container_images, container_names, labels, name, named, number, wide, wide_of,
};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, NameRule, ScalePaths, Str, Subresource};
use crate::validate::template::{Parts, does_not_match, pod_template, replica_counts, replica_status, runs_for_ever};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static REPLICATION_CONTROLLER: Kind = Declaration {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short: &[Str::Borrowed("rc")],
    categories: &[Str::Borrowed("all")],
    schema: "io.k8s.api.core.v1.ReplicationController",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpec,
    fields: &[Str::Borrowed("status.replicas")],
    storage_prefix: "controllers",
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    validate: Some(validate),
    warnings: Some(crate::validate::template::warnings),
    name_rule: NameRule::LongName,
    ..Declaration::NEW
}
.build();

fn validate(controller: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(controller, old);
    if let Some(spec) = &parts.spec {
        replica_counts(spec, errors);
        let (selector, template) = (spec.field("selector"), spec.field("template"));
        selector.must_be_set(errors);
        if !template.is_set() {
            template.required(errors, "");
        } else {
            let labels = template.fields(&["metadata", "labels"]);
            if selector.entries().any(|(key, value)| labels.value.get(key) != Some(value.value)) {
                does_not_match(&template, errors);
            }
            pod_template(&template, errors);
            runs_for_ever(&template, "ReplicationController", errors);
        }
    }
    if let Some(status) = &parts.status {
        replica_status(status, &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"], errors);
    }
}

/// The template's labels serve as selector and as labels of the controller itself.
fn defaults(controller: &mut Value) {
    let labels = controller["spec"]["template"]["metadata"]["labels"].as_object().cloned();
    let Some(fields) = controller.as_object_mut() else { return };
    if let Some(spec) = nested(fields, "spec") {
        set_missing(spec, "replicas", 1);
        if let Some(labels) = &labels {
            set_unset(spec, "selector", labels.clone());
        }
    }
    if let (Some(labels), Some(metadata)) = (labels, nested(fields, "metadata")) {
        set_unset(metadata, "labels", labels);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Desired", "integer", "io.k8s.api.core.v1.ReplicationControllerSpec", "replicas"),
        column_of("Current", "integer", "io.k8s.api.core.v1.ReplicationControllerStatus", "replicas"),
        column_of("Ready", "integer", "io.k8s.api.core.v1.ReplicationControllerStatus", "readyReplicas"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
        wide_of("Selector", "string", "io.k8s.api.core.v1.ReplicationControllerSpec", "selector"),
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
        labels(o, "/spec/selector"),
    ]
}
