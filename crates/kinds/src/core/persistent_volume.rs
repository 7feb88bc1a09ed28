//! `PersistentVolume` (v1): a piece of storage in the cluster.

use crate::kind::{Declaration, Kind, Scope, Str, Subresource};

pub static PERSISTENT_VOLUME: Kind = Declaration {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short: &[Str::Borrowed("pv")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.PersistentVolume",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
