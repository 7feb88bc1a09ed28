//! `PersistentVolumeClaim` (v1): a pod's claim of storage.

use crate::columns::{access_modes, age, column, column_of, name, named, shown, text, text_or, wide_of};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str, Subresource};
use crate::prepare::set_or_remove;
use crate::validate::pod_update::difference;
use crate::validate::resources::amount;
use crate::validate::template::Parts;
use crate::validate::{At, claim, immutable};
use jiff::Timestamp;
use machinery::field::{FieldErrors, Path};
use machinery::object;
use serde_json::{Value, json};

pub static PERSISTENT_VOLUME_CLAIM: Kind = Declaration {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short: &[Str::Borrowed("pvc")],
    schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    on_create: Some(on_create),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(claim: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(claim, old);
    let Some(spec) = &parts.spec else { return };
    claim::spec(spec, errors);
    let Some(before) = &parts.old_spec else { return };
    let bound = claim["status"]["phase"] == "Bound";
    let mut kept = spec.value.clone();
    let mut keep = |path: &[&str]| set_or_remove(&mut kept, path, object::at(before.value, path).cloned());
    if before.field("volumeName").is_empty() {
        keep(&["volumeName"]);
    }
    if !before.field("storageClassName").is_set() {
        keep(&["storageClassName"]);
    }
    if bound {
        keep(&["resources", "requests", "storage"]);
        keep(&["volumeAttributesClassName"]);
    }
    if kept != *before.value {
        let text =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        spec.forbidden(errors, format!("{text}\n{}", difference(before.value, &kept)));
    }
    let storage = |of: &At| amount(of.fields(&["resources", "requests", "storage"]).value);
    let held = amount(At::root(claim).fields(&["status", "capacity", "storage"]).value);
    if storage(spec) < storage(before) && storage(spec) <= held {
        let requests = spec.fields(&["resources", "requests", "storage"]);
        requests.forbidden(errors, "field can not be less than status.capacity");
    }
    let mode = spec.field("volumeMode").reported_at(Path::new("volumeMode"));
    immutable(&mode, &before.field("volumeMode"), errors);
}

/// A new claim is pending; the older and the newer way to name its data's source say the same.
fn on_create(claim: &mut Value) {
    claim["status"] = json!({"phase": "Pending"});
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let of = |spec: &serde_json::Map<String, Value>, field: &str| {
        spec.get(field).filter(|source| !source.is_null()).cloned()
    };
    match (of(spec, "dataSource"), of(spec, "dataSourceRef")) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(source)) if source.get("namespace").is_none_or(crate::facts::is_zero) => {
            spec.insert("dataSource".to_owned(), source);
        }
        _ => {}
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Status", "string", "io.k8s.api.core.v1.PersistentVolumeClaimStatus", "phase"),
        column_of("Volume", "string", "io.k8s.api.core.v1.PersistentVolumeClaimSpec", "volumeName"),
        column_of("Capacity", "string", "io.k8s.api.core.v1.PersistentVolumeClaimStatus", "capacity"),
        column_of("Access Modes", "string", "io.k8s.api.core.v1.PersistentVolumeClaimStatus", "accessModes"),
        column("StorageClass", "string"),
        column("VolumeAttributesClass", "string"),
        column("Age", "string"),
        wide_of("VolumeMode", "string", "io.k8s.api.core.v1.PersistentVolumeClaimSpec", "volumeMode"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let volume = text(o, "/spec/volumeName");
    let (capacity, modes) = match volume {
        "" => ("".to_owned(), json!("")),
        _ => {
            let size = o.pointer("/status/capacity/storage").map_or_else(|| "0".to_owned(), shown);
            (size, access_modes(o, "/status/accessModes"))
        }
    };
    vec![
        name(o),
        phase(o),
        json!(volume),
        json!(capacity),
        modes,
        class(o),
        text_or(o, "/spec/volumeAttributesClassName", "<unset>"),
        age(o, now),
        text_or(o, "/spec/volumeMode", "<unset>"),
    ]
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
