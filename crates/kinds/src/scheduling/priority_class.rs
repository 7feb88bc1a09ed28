//! `PriorityClass` (scheduling.k8s.io/v1): a named scheduling priority.

use crate::kind::{Declaration, Generation, Kind, Scope, Str};

pub static PRIORITY_CLASS: Kind = Declaration {
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short: &[Str::Borrowed("pc")],
    group: "scheduling.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.scheduling.v1.PriorityClass",
    generation: Generation::Initial,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
