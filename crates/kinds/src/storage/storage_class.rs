//! `StorageClass` (storage.k8s.io/v1): a named way to provision volumes.

use crate::kind::{Declaration, Kind, Scope, Str};

pub static STORAGE_CLASS: Kind = Declaration {
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short: &[Str::Borrowed("sc")],
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.StorageClass",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
