//! `ResourceQuota` (v1): what a namespace may use in sum.

use crate::kind::{Declaration, Kind, Str, Subresource};

pub static RESOURCE_QUOTA: Kind = Declaration {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short: &[Str::Borrowed("quota")],
    schema: "io.k8s.api.core.v1.ResourceQuota",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
