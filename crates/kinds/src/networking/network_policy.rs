//! `NetworkPolicy` (networking.k8s.io/v1): who may talk to the pods it selects.

use crate::kind::{Declaration, Generation, Kind, Str};

pub static NETWORK_POLICY: Kind = Declaration {
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short: &[Str::Borrowed("netpol")],
    group: "networking.k8s.io",
    schema: "io.k8s.api.networking.v1.NetworkPolicy",
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
