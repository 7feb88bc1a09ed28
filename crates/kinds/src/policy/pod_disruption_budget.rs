//! `PodDisruptionBudget` (policy/v1): how many pods of a set may be evicted at a time.

use crate::kind::{Declaration, Generation, Kind, Str, Subresource};

pub static POD_DISRUPTION_BUDGET: Kind = Declaration {
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short: &[Str::Borrowed("pdb")],
    group: "policy",
    schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    ..Declaration::NEW
}
.build();
