//! `VolumeAttachment` (storage.k8s.io/v1): a volume attached, or to be attached, to a node.

use crate::columns::{age, column, column_of, flag_or, name, named, named_of, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Subresource};
use crate::validate::volume::csi_driver_name;
use crate::validate::{At, immutable};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::names;
use serde_json::Value;
use serde_json::json;

pub static VOLUME_ATTACHMENT: Kind = Declaration {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.VolumeAttachment",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/storage/validation/validation.go: ValidateVolumeAttachment`.
fn validate(attachment: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(attachment).field("spec");
    csi_driver_name(&spec.field("attacher"), errors);
    let source = spec.field("source");
    let (inline, claimed) = (source.field("inlineVolumeSpec"), source.field("persistentVolumeName"));
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), claimed.is_set()) {
        (false, false) => source.required(errors, detail),
        (true, true) => source.forbidden(errors, detail),
        (false, true) if claimed.is_empty() => claimed.required(errors, "must specify non empty persistentVolumeName"),
        _ => {}
    }
    let node = spec.field("nodeName");
    node.invalid_each(errors, names::dns1123_subdomain(node.text()));
    if claimed.is_set() {
        claimed.invalid_each(errors, names::dns1123_subdomain(claimed.text()));
    }
    if let Some(old) = old {
        immutable(&spec, &At::root(old).field("spec"), errors);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        named_of("Attacher", 0, "io.k8s.api.storage.v1.VolumeAttachmentSpec", "attacher"),
        column_of("PV", "string", "io.k8s.api.storage.v1.VolumeAttachmentSource", "persistentVolumeName"),
        column_of("Node", "string", "io.k8s.api.storage.v1.VolumeAttachmentSpec", "nodeName"),
        column_of("Attached", "boolean", "io.k8s.api.storage.v1.VolumeAttachmentStatus", "attached"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(text(o, "/spec/attacher")),
        json!(text(o, "/spec/source/persistentVolumeName")),
        json!(text(o, "/spec/nodeName")),
        json!(flag_or(o, "/status/attached", false)),
        age(o, now),
    ]
}
