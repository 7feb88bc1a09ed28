//! `CustomResourceDefinition` (apiextensions.k8s.io/v1): a kind made by a user.

use crate::defaults::{nested, set_missing, set_unset, text_of};
use crate::kind::{Declaration, Generation, Kind, Scope, Str, Subresource};
use serde_json::{Value, json};

pub static CUSTOM_RESOURCE_DEFINITION: Kind = Declaration {
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short: &[Str::Borrowed("crd"), Str::Borrowed("crds")],
    categories: &[Str::Borrowed("api-extensions")],
    group: "apiextensions.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    status_keeps_metadata: true,
    storage_prefix: "apiextensions.k8s.io/customresourcedefinitions",
    conditional_defaults: Some(defaults),
    ..Declaration::NEW
}
.build();

fn defaults(definition: &mut Value) {
    let stored =
        definition["spec"]["versions"].as_array().into_iter().flatten().find(|version| version["storage"] == true);
    let stored = stored.map(|version| version["name"].clone());
    let Some(fields) = definition.as_object_mut() else { return };
    if let Some(spec) = nested(fields, "spec") {
        set_missing(spec, "conversion", json!({"strategy": "None"}));
        if let Some(names) = nested(spec, "names") {
            let kind = text_of(names, "kind").to_owned();
            set_unset(names, "singular", kind.to_lowercase());
            if !kind.is_empty() {
                set_unset(names, "listKind", format!("{kind}List"));
            }
        }
    }
    if let (Some(name), Some(status)) = (stored, nested(fields, "status")) {
        set_unset(status, "storedVersions", json!([name]));
    }
}
