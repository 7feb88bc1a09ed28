//! `VolumeAttachment` (storage.k8s.io/v1): a volume attached, or to be attached, to a node.

use crate::columns::{age, column, flag_or, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope, Subresource};
use jiff::Timestamp;
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
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        named("Attacher", 0),
        column("PV", "string"),
        column("Node", "string"),
        column("Attached", "boolean"),
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
