//! Definitions which upstream publishes as Go types alone: `metrics.k8s.io`, and objects without all but their metadata.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::go;

pub const METRICS: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";

/// A package's types that are not in OpenAPI.
pub struct Unpublished {
    pub package: &'static str,
    group: &'static str,
    version: &'static str,
    types: &'static [&'static str],
}

pub const UNPUBLISHED: [Unpublished; 2] = [
    Unpublished {
        package: METRICS,
        group: "metrics.k8s.io",
        version: "v1beta1",
        types: &["ContainerMetrics", "NodeMetrics", "NodeMetricsList", "PodMetrics", "PodMetricsList"],
    },
    Unpublished {
        package: "io.k8s.apimachinery.pkg.apis.meta.v1",
        group: "meta.k8s.io",
        version: "v1",
        types: &["PartialObjectMetadata", "PartialObjectMetadataList"],
    },
];

/// The types as OpenAPI would have them.
pub fn definitions(of: &Unpublished, package: &go::Package) -> Result<BTreeMap<String, Value>> {
    let mut definitions = BTreeMap::new();
    for &name in of.types {
        let Some(fields) = package.fields(name) else { bail!("{} has no {name}", of.package) };
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, tag) in fields {
            properties.insert(field.clone(), schema(of, &tag.go_type)?);
            if !tag.omit_empty {
                required.push(field);
            }
        }
        let mut definition = json!({"type": "object", "required": required});
        if name != "ContainerMetrics" {
            properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
            properties.insert("kind".to_owned(), json!({"type": "string"}));
            definition["x-kubernetes-group-version-kind"] =
                json!([{"group": of.group, "version": of.version, "kind": name}]);
        }
        definition["properties"] = Value::Object(properties);
        definitions.insert(format!("{}.{name}", of.package), definition);
    }
    Ok(definitions)
}

fn schema(of: &Unpublished, go_type: &str) -> Result<Value> {
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let meta = |name: &str| reference(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}"));
    Ok(match go_type {
        "string" | "metav1.Duration" => json!({"type": "string"}),
        "metav1.Time" => meta("Time"),
        "metav1.ObjectMeta" | "ObjectMeta" => json!({"allOf": [meta("ObjectMeta")], "default": {}}),
        "metav1.ListMeta" | "ListMeta" => json!({"allOf": [meta("ListMeta")], "default": {}}),
        "v1.ResourceList" => {
            json!({"type": "object", "additionalProperties": reference("io.k8s.apimachinery.pkg.api.resource.Quantity")})
        }
        other => match other.strip_prefix("[]") {
            Some(item) if of.types.contains(&item) => {
                json!({"type": "array", "items": reference(&format!("{}.{item}", of.package))})
            }
            _ => bail!("unknown Go type {other}"),
        },
    })
}
