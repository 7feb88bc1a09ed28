//! `DeviceTaintRule` (resource.k8s.io/v1): taints devices that match.

use crate::kind::{Declaration, Generation, Kind, Scope, Subresource};

pub static DEVICE_TAINT_RULE: Kind = Declaration {
    kind: "DeviceTaintRule",
    plural: "devicetaintrules",
    singular: "devicetaintrule",
    group: "resource.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.resource.v1.DeviceTaintRule",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    status_keeps_metadata: true,
    ..Declaration::NEW
}
.build();
