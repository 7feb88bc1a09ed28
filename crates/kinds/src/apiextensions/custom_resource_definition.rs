//! `CustomResourceDefinition` (apiextensions.k8s.io/v1): a kind made by a user.

use crate::columns::{column, condition, flag_or, join_texts, list, name, named, text, wide};
use crate::defaults::{nested, set_missing, set_unset, text_of};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str, Subresource};
use jiff::Timestamp;
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
    columns: Some(COLUMNS),
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

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Scope", "string"),
        column("Versions", "string"),
        column("Created At", "date"),
        wide("Group", "string"),
        wide("Kind", "string"),
        wide("ShortNames", "string"),
        wide("Established", "boolean"),
    ],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    let versions = list(o, "/spec/versions").iter().filter(|version| flag_or(version, "/served", false));
    let versions = versions.map(|version| match flag_or(version, "/storage", false) {
        true => format!("{}(storage)", text(version, "/name")),
        false => text(version, "/name").to_owned(),
    });
    let mut versions = versions.collect::<Vec<_>>();
    versions.sort_unstable();
    let versions = versions.join(",");
    let established = condition(o, "Established").is_some_and(|condition| condition["status"] == "True");
    vec![
        name(o),
        json!(text(o, "/spec/scope")),
        json!(versions),
        json!(text(o, "/metadata/creationTimestamp")),
        json!(text(o, "/spec/group")),
        json!(text(o, "/spec/names/kind")),
        json!(join_texts(list(o, "/spec/names/shortNames"), ",")),
        json!(established),
    ]
}
