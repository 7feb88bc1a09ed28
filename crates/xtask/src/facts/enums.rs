//! The values of enumerations, as upstream's generated OpenAPI definitions list them: its published documents leave them out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// By type, as the generated functions call it, and field.
pub struct Enums(BTreeMap<(String, String), Vec<String>>);

impl Enums {
    pub fn read(kubernetes: &Path) -> Result<Enums> {
        let path = kubernetes.join("pkg/generated/openapi/zz_generated.openapi.go");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut enums = BTreeMap::new();
        let (mut of, mut field) = ("", "");
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("func schema_").and_then(|rest| rest.split('(').next()) {
                of = name;
            } else if let Some(name) = line.strip_prefix("\t\t\t\t\t\"").and_then(|rest| rest.strip_suffix("\": {")) {
                field = name;
            } else if let Some((_, values)) =
                line.split_once("Enum:").and_then(|(_, rest)| rest.split_once("[]interface{}{"))
            {
                let list = format!("[{}]", values.trim_end_matches("},"));
                let values = serde_json::from_str(&list).with_context(|| format!("{of}.{field}: {list}"))?;
                enums.insert((of.to_owned(), field.to_owned()), values);
            }
        }
        Ok(Enums(enums))
    }

    /// The values of a definition's field, or of its items.
    pub fn values(&self, definition: &str, field: &str) -> Option<&Vec<String>> {
        self.0.get(&(function_of(definition), field.to_owned()))
    }
}

/// `io.k8s.api.core.v1.Container` is made by `schema_k8sio_api_core_v1_Container`: of a long package only the end is said.
fn function_of(definition: &str) -> String {
    const SAID: usize = 5;
    let package = definition.strip_prefix("io.k8s.").unwrap_or(definition).replace('-', "");
    let parts: Vec<&str> = std::iter::once("k8sio").chain(package.split('.')).collect();
    parts[parts.len().saturating_sub(SAID)..].join("_")
}
