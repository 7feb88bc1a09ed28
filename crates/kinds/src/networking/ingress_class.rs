//! `IngressClass` (networking.k8s.io/v1): which controller serves an Ingress.

use crate::kind::{Declaration, Generation, Kind, Scope};

pub static INGRESS_CLASS: Kind = Declaration {
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.networking.v1.IngressClass",
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
