//! `ResourceSlice` (resource.k8s.io/v1): devices of a driver, on a node or in a pool.

use crate::kind::{Declaration, Generation, Kind, Scope, Str};

pub static RESOURCE_SLICE: Kind = Declaration {
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    group: "resource.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.resource.v1.ResourceSlice",
    generation: Generation::OfSpec,
    fields: &[Str::Borrowed("spec.nodeName"), Str::Borrowed("spec.driver"), Str::Borrowed("spec.pool.name")],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
