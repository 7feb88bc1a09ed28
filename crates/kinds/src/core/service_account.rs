//! `ServiceAccount` (v1): an identity for pods.

use crate::kind::{Declaration, Kind, Str, Subresource};

pub static SERVICE_ACCOUNT: Kind = Declaration {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short: &[Str::Borrowed("sa")],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    subresources: &[Subresource::Token],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
