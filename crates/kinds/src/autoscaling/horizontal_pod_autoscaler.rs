//! `HorizontalPodAutoscaler` (autoscaling/v2): scales a workload by what is measured of it.

use crate::columns::{age, column, column_of, name, named, number, shown, text};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Conversion, Declaration, Generation, Kind, Str, Subresource};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub static HORIZONTAL_POD_AUTOSCALER_V2: Kind = Declaration {
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short: &[Str::Borrowed("hpa")],
    categories: &[Str::Borrowed("all")],
    group: "autoscaling",
    version: "v2",
    schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    generation: Generation::OfSpec,
    conditional_defaults: Some(defaults_v2),
    validate: Some(super::validate::v2),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

pub static HORIZONTAL_POD_AUTOSCALER_V1: Kind = Declaration {
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short: &[Str::Borrowed("hpa")],
    categories: &[Str::Borrowed("all")],
    group: "autoscaling",
    schema: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
    subresources: &[Subresource::Status],
    storage_version: Some(("autoscaling", "v2")),
    unconditional_update: true,
    generation: Generation::OfSpec,
    conditional_defaults: Some(defaults_v1),
    conversion: Some(Conversion { to_storage: v1_to_v2, from_storage: v2_to_v1 }),
    validate: Some(super::validate::v1),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

/// What is scaled to when no metric is given.
const CPU_PERCENT: i64 = 80;

fn defaults_v2(autoscaler: &mut Value) {
    let Some(spec) = autoscaler.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_missing(spec, "minReplicas", 1);
    let cpu = json!({"type": "Resource", "resource": {
        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT},
    }});
    set_unset(spec, "metrics", json!([cpu]));
}

fn defaults_v1(autoscaler: &mut Value) {
    let measured = machinery::object::annotation(autoscaler, METRICS).is_some();
    let Some(spec) = autoscaler.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_missing(spec, "minReplicas", 1);
    if !measured {
        set_missing(spec, "targetCPUUtilizationPercentage", CPU_PERCENT);
    }
}

/// The annotation by which v1 keeps metrics that it has no fields for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

/// v1 keeps what it has no fields for in these annotations: the key, and where v2 keeps it.
const ANNOTATIONS: [(&str, &[&str]); 4] = [
    (METRICS, &["spec", "metrics"]),
    ("autoscaling.alpha.kubernetes.io/behavior", &["spec", "behavior"]),
    ("autoscaling.alpha.kubernetes.io/current-metrics", &["status", "currentMetrics"]),
    ("autoscaling.alpha.kubernetes.io/conditions", &["status", "conditions"]),
];

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// `kubernetes/kubernetes pkg/apis/autoscaling/v1/conversion.go`: CPU utilization has fields of its own in v1, the
/// rest travels as annotations.
fn v1_to_v2(autoscaler: &mut Value) {
    let mut moved: Map<String, Value> = Map::new();
    if let Some(annotations) = autoscaler.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        for (key, _) in ANNOTATIONS {
            let parsed = annotations.remove(key).and_then(|text| serde_json::from_str(text.as_str()?).ok());
            if let Some(value) = parsed {
                moved.insert(key.to_owned(), value);
            }
        }
    }
    for (key, path) in ANNOTATIONS {
        if let Some(value) = moved.remove(key) {
            machinery::object::put(autoscaler, path, value);
        }
    }
    let target = machinery::object::take(autoscaler, &["spec", "targetCPUUtilizationPercentage"]);
    if let Some(percent) = target.filter(|percent| !percent.is_null()) {
        let cpu = json!({"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent},
        }});
        prepend(autoscaler, &["spec", "metrics"], cpu);
    }
    let current = machinery::object::take(autoscaler, &["status", "currentCPUUtilizationPercentage"]);
    if let Some(percent) = current.filter(|percent| !percent.is_null()) {
        let cpu = json!({"type": "Resource", "resource": {
            "name": "cpu", "current": {"averageUtilization": percent},
        }});
        prepend(autoscaler, &["status", "currentMetrics"], cpu);
    }
}

fn prepend(object: &mut Value, path: &[&str], item: Value) {
    let mut items = machinery::object::at(object, path).and_then(Value::as_array).cloned().unwrap_or_default();
    items.insert(0, item);
    machinery::object::put(object, path, Value::Array(items));
}

/// The way back: the first CPU utilization target becomes v1's field.
fn v2_to_v1(autoscaler: &mut Value) {
    for (list, amount, field) in [
        (["spec", "metrics"], "target", ["spec", "targetCPUUtilizationPercentage"]),
        (["status", "currentMetrics"], "current", ["status", "currentCPUUtilizationPercentage"]),
    ] {
        let mut items = match machinery::object::take(autoscaler, &list) {
            Some(Value::Array(items)) => items,
            _ => continue,
        };
        let percent = |item: &Value| item["resource"][amount]["averageUtilization"].clone();
        let cpu = items.iter().position(|item| is_cpu_utilization(item) && !percent(item).is_null());
        if let Some(at) = cpu {
            machinery::object::put(autoscaler, &field, percent(&items.remove(at)));
        }
        if !items.is_empty() {
            machinery::object::put(autoscaler, &list, Value::Array(items));
        }
    }
    for (key, path) in ANNOTATIONS {
        if let Some(value) = machinery::object::take(autoscaler, path).filter(|value| !value.is_null()) {
            machinery::object::annotations_mut(autoscaler).insert(key.to_owned(), json!(value.to_string()));
        }
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Reference", "string", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "scaleTargetRef"),
        column_of("Targets", "string", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "metrics"),
        column_of("MinPods", "string", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "minReplicas"),
        column_of("MaxPods", "string", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec", "maxReplicas"),
        column_of("Replicas", "string", "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", "currentReplicas"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let reference = format!("{}/{}", text(o, "/spec/scaleTargetRef/kind"), text(o, "/spec/scaleTargetRef/name"));
    let min = o.pointer("/spec/minReplicas").filter(|min| !min.is_null()).map_or_else(|| "<unset>".to_owned(), shown);
    vec![
        name(o),
        json!(reference),
        json!(crate::autoscaling::metrics::targets(o)),
        json!(min),
        json!(number(o, "/spec/maxReplicas")),
        json!(number(o, "/status/currentReplicas")),
        age(o, now),
    ]
}
