//! `ReplicationController` (v1): the older form of ReplicaSet.

use crate::kind::{Declaration, Generation, Kind, ScalePaths, Str, Subresource};

pub static REPLICATION_CONTROLLER: Kind = Declaration {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short: &[Str::Borrowed("rc")],
    categories: &[Str::Borrowed("all")],
    schema: "io.k8s.api.core.v1.ReplicationController",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpec,
    fields: &[Str::Borrowed("status.replicas")],
    storage_prefix: "controllers",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
