//! `ServiceCIDR` (networking.k8s.io/v1): a range cluster addresses are taken from.

use crate::kind::{Declaration, Kind, Scope, Subresource};

pub static SERVICE_CIDR: Kind = Declaration {
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.networking.v1.ServiceCIDR",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
