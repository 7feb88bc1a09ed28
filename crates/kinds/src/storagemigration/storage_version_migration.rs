//! `StorageVersionMigration` (storagemigration.k8s.io/v1): a rewrite of stored objects to the current version.

use crate::columns::{column, list, name, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Subresource};
use crate::validate::{At, immutable};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::names;
use serde_json::Value;
use serde_json::json;

pub static STORAGE_VERSION_MIGRATION: Kind = Declaration {
    kind: "StorageVersionMigration",
    plural: "storageversionmigrations",
    singular: "storageversionmigration",
    group: "storagemigration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storagemigration.v1.StorageVersionMigration",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    // As upstream keeps it, so that the release before can read it.
    storage_version: Some(("storagemigration.k8s.io", "v1beta1")),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/storagemigration/validation: ValidateStorageVersionMigration`.
fn validate(migration: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(migration);
    let spec = at.field("spec");
    let (resource, group) = (spec.fields(&["resource", "resource"]), spec.fields(&["resource", "group"]));
    let joined = |complaints: Vec<String>| (!complaints.is_empty()).then(|| complaints.join(","));
    if resource.is_empty() {
        resource.required(errors, "resource is required to be set");
    } else if let Some(detail) = joined(names::dns1035_label(resource.text())) {
        resource.invalid(errors, detail);
    }
    if !group.is_empty()
        && let Some(detail) = joined(names::dns1123_subdomain(group.text()))
    {
        group.invalid(errors, detail);
    }
    if let Some(old) = old {
        immutable(&spec, &At::root(old).field("spec"), errors);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[column("Name", "string"), column("Resource", "string"), column("Status", "string")],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    let resource = match text(o, "/spec/resource/group") {
        "" => text(o, "/spec/resource/resource").to_owned(),
        group => format!("{}.{group}", text(o, "/spec/resource/resource")),
    };
    let met = list(o, "/status/conditions").iter().rev().filter(|condition| condition["status"] == "True");
    let mut met = met.map(|condition| text(condition, "/type"));
    let status = met.find(|of| matches!(*of, "Running" | "Failed" | "Succeeded")).unwrap_or("Unknown");
    vec![name(o), json!(resource), json!(status)]
}
