//! `ResourceClaim` (resource.k8s.io/v1): a claim of devices for pods.

use crate::kind::{Declaration, Kind, Subresource};

pub static RESOURCE_CLAIM: Kind = Declaration {
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    group: "resource.k8s.io",
    schema: "io.k8s.api.resource.v1.ResourceClaim",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
