//! `CSINode` (storage.k8s.io/v1): the volume drivers a node has.

use crate::kind::{Declaration, Kind, Scope, Subresource};

pub static CSI_NODE: Kind = Declaration {
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.CSINode",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    ..Declaration::NEW
}
.build();
