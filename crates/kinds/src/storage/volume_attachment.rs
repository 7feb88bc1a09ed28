//! `VolumeAttachment` (storage.k8s.io/v1): a volume attached, or to be attached, to a node.

use crate::kind::{Declaration, Kind, Scope, Subresource};

pub static VOLUME_ATTACHMENT: Kind = Declaration {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.VolumeAttachment",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    ..Declaration::NEW
}
.build();
