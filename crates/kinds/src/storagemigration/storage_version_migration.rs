//! `StorageVersionMigration` (storagemigration.k8s.io/v1): a rewrite of stored objects to the current version.

use crate::kind::{Declaration, Kind, Scope, Subresource};

pub static STORAGE_VERSION_MIGRATION: Kind = Declaration {
    kind: "StorageVersionMigration",
    plural: "storageversionmigrations",
    singular: "storageversionmigration",
    group: "storagemigration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storagemigration.v1.StorageVersionMigration",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    ..Declaration::NEW
}
.build();
