//! `DeviceClass` (resource.k8s.io/v1): a named choice of devices.

use crate::kind::{Declaration, Generation, Kind, Scope};

pub static DEVICE_CLASS: Kind = Declaration {
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    group: "resource.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.resource.v1.DeviceClass",
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
