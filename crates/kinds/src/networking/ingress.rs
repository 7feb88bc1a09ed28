//! `Ingress` (networking.k8s.io/v1): HTTP routes from outside to Services.

use crate::kind::{Declaration, Generation, Kind, Str, Subresource};

pub static INGRESS: Kind = Declaration {
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short: &[Str::Borrowed("ing")],
    group: "networking.k8s.io",
    schema: "io.k8s.api.networking.v1.Ingress",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    storage_prefix: "ingress",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
