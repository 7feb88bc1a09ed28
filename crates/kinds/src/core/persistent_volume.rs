//! `PersistentVolume` (v1): a piece of storage in the cluster.

use crate::columns::{access_modes, age, column, name, named, shown, text, text_or, wide};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Str, Subresource};
use jiff::Timestamp;
use serde_json::{Value, json};

pub static PERSISTENT_VOLUME: Kind = Declaration {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short: &[Str::Borrowed("pv")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.PersistentVolume",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    on_create: Some(on_create),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

fn defaults(volume: &mut Value) {
    let Some(fields) = volume.as_object_mut() else { return };
    if let Some(status) = nested(fields, "status") {
        set_unset(status, "phase", "Pending");
    }
    if let Some(spec) = nested(fields, "spec") {
        set_unset(spec, "persistentVolumeReclaimPolicy", "Retain");
        set_missing(spec, "volumeMode", "Filesystem");
    }
}

/// A new volume is pending since now.
fn on_create(volume: &mut Value) {
    volume["status"] = json!({
        "phase": "Pending", "lastPhaseTransitionTime": volume["metadata"]["creationTimestamp"],
    });
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Capacity", "string"),
        column("Access Modes", "string"),
        column("Reclaim Policy", "string"),
        column("Status", "string"),
        column("Claim", "string"),
        column("StorageClass", "string"),
        column("VolumeAttributesClass", "string"),
        column("Reason", "string"),
        column("Age", "string"),
        wide("VolumeMode", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match o.pointer("/spec/claimRef").filter(|claim| !claim.is_null()) {
        Some(claim) => format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")),
        None => String::new(),
    };
    vec![
        name(o),
        json!(quantity(o)),
        access_modes(o, "/spec/accessModes"),
        json!(text(o, "/spec/persistentVolumeReclaimPolicy")),
        phase(o),
        json!(claim),
        class(o),
        text_or(o, "/spec/volumeAttributesClassName", "<unset>"),
        json!(text(o, "/status/reason")),
        age(o, now),
        text_or(o, "/spec/volumeMode", "<unset>"),
    ]
}

fn quantity(o: &Value) -> String {
    o.pointer("/spec/capacity/storage").map_or_else(|| "0".to_owned(), shown)
}

fn phase(o: &Value) -> Value {
    let deleted = o.pointer("/metadata/deletionTimestamp").is_some_and(|time| !time.is_null());
    json!(if deleted { "Terminating" } else { text(o, "/status/phase") })
}

/// The class by the old annotation, else by the field.
fn class(o: &Value) -> Value {
    let beta = machinery::object::annotation(o, "volume.beta.kubernetes.io/storage-class");
    json!(beta.unwrap_or_else(|| text(o, "/spec/storageClassName")))
}
