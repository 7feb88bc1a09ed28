//! `ResourceClaimTemplate` (resource.k8s.io/v1): makes a ResourceClaim for each pod.

use crate::kind::{Declaration, Kind};

pub static RESOURCE_CLAIM_TEMPLATE: Kind = Declaration {
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    group: "resource.k8s.io",
    schema: "io.k8s.api.resource.v1.ResourceClaimTemplate",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
