//! `PersistentVolume` (v1): a piece of storage in the cluster.

use crate::columns::{access_modes, age, column, column_of, name, named, shown, text, text_or, wide_of};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Str, Subresource};
use crate::validate::pod_update::difference;
use crate::validate::resources::amount;
use crate::validate::selector::node_selector;
use crate::validate::template::Parts;
use crate::validate::{At, claim, immutable, volume};
use jiff::Timestamp;
use machinery::field::{FieldError, FieldErrors, Path};
use machinery::object;
use serde_json::Map;
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
    validate: Some(validate),
    on_status_update: Some(on_status_update),
    ..Declaration::NEW
}
.build();

/// Fields of the spec that say what the volume is, rather than how it is used.
const USE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn source(spec: &At) -> Map<String, Value> {
    let fields = spec.value.as_object().into_iter().flatten();
    fields
        .filter(|(name, value)| !USE.contains(&name.as_str()) && !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

fn validate(volume: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(volume, old);
    let Some(spec) = &parts.spec else { return };
    let modes = spec.field("accessModes");
    if modes.must_be_set(errors) {
        claim::access_modes(&modes, errors);
    }
    capacity(&spec.field("capacity"), errors);
    let policy = spec.field("persistentVolumeReclaimPolicy");
    if !policy.is_empty() {
        policy.one_of(&["Delete", "Recycle", "Retain"], errors);
    }
    if let Some(affinity) = spec.set("nodeAffinity") {
        match affinity.set("required") {
            Some(required) => node_selector(&required, errors),
            None => affinity.field("required").required(errors, "must specify required node constraints"),
        }
    }
    sources(spec, errors);
    claim::class_name(&spec.field("storageClassName"), errors);
    spec.field("volumeMode").optional_one_of(&["Block", "Filesystem"], errors);
    let Some(before) = &parts.old_spec else { return };
    let (now, was) = (Value::Object(source(spec)), Value::Object(source(before)));
    if now != was {
        let text = "spec.persistentvolumesource is immutable after creation";
        let detail = format!("{text}\n{}", difference(&was, &now));
        errors.push(FieldError::forbidden(&spec.path.child("persistentvolumesource"), detail));
    }
    let mode = spec.field("volumeMode").reported_at(Path::new("volumeMode"));
    immutable(&mode, &before.field("volumeMode"), errors);
}

fn capacity(at: &At, errors: &mut FieldErrors) {
    at.must_be_set(errors);
    if at.field("storage").value.is_null() || at.count() > 1 {
        errors.push(FieldError::not_supported(&at.path, at.shown(), &["storage"]));
    }
    for (_, entry) in at.entries() {
        let quantity = amount(entry.value);
        if quantity.value() < 0 {
            errors.push(FieldError::invalid(&entry.path, quantity.value(), "must be a valid resource quantity"));
        }
        if quantity.sign() <= 0 {
            errors.push(FieldError::invalid(&entry.path, quantity.to_string(), "must be greater than zero"));
        }
    }
}

fn sources(spec: &At, errors: &mut FieldErrors) {
    let found = source(spec);
    if found.is_empty() {
        return spec.required(errors, "must specify a volume type");
    }
    // `hostPath` is looked at first, `nfs` after it.
    let mut names: Vec<&String> = found.keys().collect();
    names.sort_by_key(|name| (*name != "hostPath", *name != "nfs"));
    for (at, name) in names.into_iter().enumerate() {
        let source = spec.field(name);
        match (at, name.as_str()) {
            (0, "hostPath") => volume::host_path(&source, errors),
            (0, "nfs") => volume::nfs(&source, errors),
            (0, "csi") => {
                volume::csi_driver_name(&source.field("driver"), errors);
                source.field("volumeHandle").must_be_set(errors);
            }
            (0, "local") => {
                if source.field("path").must_be_set(errors) {
                    volume::no_backsteps(&source.field("path"), errors);
                }
                if !spec.field("nodeAffinity").is_set() {
                    let detail = "Local volume requires node affinity";
                    errors.push(FieldError::required(&Path::new("metadata").child("annotations"), detail));
                }
            }
            (0, _) => {}
            // Upstream's own spelling.
            (_, "cephfs") => {
                let path = spec.path.child("cephFS");
                source.reported_at(path).forbidden(errors, "may not specify more than 1 volume type");
            }
            _ => source.forbidden(errors, "may not specify more than 1 volume type"),
        }
    }
    let path = spec.fields(&["hostPath", "path"]);
    let policy = spec.field("persistentVolumeReclaimPolicy");
    let is_root = path.text().starts_with('/') && path.text().split('/').all(|part| matches!(part, "" | "."));
    if is_root && policy.is("Recycle") {
        policy.forbidden(errors, "may not be 'recycle' for a hostPath mount of '/'");
    }
}

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
/// A write of the status that leaves the phase as it was leaves the time of its last change too.
fn on_status_update(volume: &mut Value, old: &Value) {
    let at = ["status", "lastPhaseTransitionTime"];
    let same = |of: &Value, field: &str| object::at(of, &["status", field]).cloned();
    let phase = |of: &Value| same(of, "phase").unwrap_or_else(|| Value::from("Pending"));
    let known = same(old, "lastPhaseTransitionTime");
    if let Some(known) = known.filter(|_| phase(volume) == phase(old) && object::at(volume, &at).is_none()) {
        object::put(volume, &at, known);
    }
}

fn on_create(volume: &mut Value) {
    volume["status"] = json!({
        "phase": "Pending", "lastPhaseTransitionTime": volume["metadata"]["creationTimestamp"],
    });
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Capacity", "string", "io.k8s.api.core.v1.PersistentVolumeSpec", "capacity"),
        column_of("Access Modes", "string", "io.k8s.api.core.v1.PersistentVolumeSpec", "accessModes"),
        column_of(
            "Reclaim Policy",
            "string",
            "io.k8s.api.core.v1.PersistentVolumeSpec",
            "persistentVolumeReclaimPolicy",
        ),
        column_of("Status", "string", "io.k8s.api.core.v1.PersistentVolumeStatus", "phase"),
        column_of("Claim", "string", "io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef"),
        column("StorageClass", "string"),
        column("VolumeAttributesClass", "string"),
        column_of("Reason", "string", "io.k8s.api.core.v1.PersistentVolumeStatus", "reason"),
        column("Age", "string"),
        wide_of("VolumeMode", "string", "io.k8s.api.core.v1.PersistentVolumeSpec", "volumeMode"),
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
