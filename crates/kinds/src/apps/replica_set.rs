//! `ReplicaSet` (apps/v1): keeps a number of equal pods running.

use crate::kind::{Declaration, Generation, Kind, ScalePaths, Str, Subresource};

pub static REPLICA_SET: Kind = Declaration {
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short: &[Str::Borrowed("rs")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.ReplicaSet",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
