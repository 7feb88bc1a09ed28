//! The metrics of a HorizontalPodAutoscaler as its table shows them, in the terms of either version.

use serde_json::{Value, json};

use crate::columns::{list, shown, text};

/// How many metrics are shown before the rest is only counted.
const MAX: usize = 2;

/// `cpu: 12%/80%` for each metric of a v2 object; v1's one target the same way.
pub fn targets(autoscaler: &Value) -> String {
    let specs = list(autoscaler, "/spec/metrics");
    let statuses = list(autoscaler, "/status/currentMetrics");
    let mut all: Vec<String> =
        specs.iter().enumerate().map(|(at, spec)| target(spec, statuses.get(at).unwrap_or(&Value::Null))).collect();
    if let Some(percent) = autoscaler.pointer("/spec/targetCPUUtilizationPercentage").and_then(Value::as_i64) {
        let current = autoscaler.pointer("/status/currentCPUUtilizationPercentage").and_then(Value::as_i64);
        let current = current.map_or_else(|| "<unknown>".to_owned(), |current| format!("{current}%"));
        all.insert(0, format!("cpu: {current}/{percent}%"));
    }
    let head = all.iter().take(MAX).cloned().collect::<Vec<_>>().join(", ");
    match all.len() {
        0 => "<none>".to_owned(),
        count if count > MAX => format!("{head} + {} more...", count - MAX),
        _ => head,
    }
}

fn target(spec: &Value, status: &Value) -> String {
    let of = text(spec, "/type");
    let source = match of {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = &spec[source]["target"];
    let current = |field: &str| match &status[source]["current"][field] {
        Value::Null => json!("<unknown>"),
        value => value.clone(),
    };
    let name = text(&spec[source], "/name");
    let average = &wanted["averageValue"];
    match (source, average.is_null()) {
        ("resource" | "containerResource", false) => {
            format!("{name}: {}/{}", shown(&current("averageValue")), shown(average))
        }
        ("resource" | "containerResource", true) => {
            let percent =
                |value: &Value, none: &str| value.as_i64().map_or(none.to_owned(), |value| format!("{value}%"));
            let now = percent(&current("averageUtilization"), "<unknown>");
            format!("{name}: {now}/{}", percent(&wanted["averageUtilization"], "<auto>"))
        }
        ("pods", _) => format!("{}/{}", shown(&current("averageValue")), shown(average)),
        (_, false) => format!("{}/{} (avg)", shown(&current("averageValue")), shown(average)),
        (_, true) => format!("{}/{}", shown(&current("value")), shown(&wanted["value"])),
    }
}
