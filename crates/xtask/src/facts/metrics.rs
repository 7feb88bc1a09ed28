//! Definitions of `metrics.k8s.io`, which upstream publishes as Go types alone.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::go;

pub const PACKAGE: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
const TYPES: [&str; 5] = ["ContainerMetrics", "NodeMetrics", "NodeMetricsList", "PodMetrics", "PodMetricsList"];

/// The package's types as OpenAPI would have them.
pub fn definitions(package: &go::Package) -> Result<BTreeMap<String, Value>> {
    let mut definitions = BTreeMap::new();
    for name in TYPES {
        let Some(fields) = package.fields(name) else { bail!("{PACKAGE} has no {name}") };
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, tag) in fields {
            properties.insert(field.clone(), schema(&tag.go_type)?);
            if !tag.omit_empty {
                required.push(field);
            }
        }
        let mut definition = json!({"type": "object", "required": required});
        if name != "ContainerMetrics" {
            properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
            properties.insert("kind".to_owned(), json!({"type": "string"}));
            definition["x-kubernetes-group-version-kind"] = json!([{"group": GROUP, "version": VERSION, "kind": name}]);
        }
        definition["properties"] = Value::Object(properties);
        definitions.insert(format!("{PACKAGE}.{name}"), definition);
    }
    Ok(definitions)
}

fn schema(go_type: &str) -> Result<Value> {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let meta = |name: &str| reference(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"));
    Ok(match go_type {
        "string" | "metav1.Duration" => json!({"type": "string"}),
        "metav1.Time" => meta("Time"),
        "metav1.ObjectMeta" => json!({"allOf": [meta("ObjectMeta")], "default": {}}),
        "metav1.ListMeta" => json!({"allOf": [meta("ListMeta")], "default": {}}),
        "v1.ResourceList" => {
            json!({"type": "object", "additionalProperties": reference("io.k8s.apimachinery.pkg.api.resource.Quantity")})
        }
        other => match other.strip_prefix("[]") {
            Some(item) if TYPES.contains(&item) => {
                json!({"type": "array", "items": reference(&format!("{PACKAGE}.{item}"))})
            }
            _ => bail!("unknown Go type {other}"),
        },
    })
}
