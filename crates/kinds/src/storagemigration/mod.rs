//! The kinds of the group `storagemigration.k8s.io`: a file each.

pub mod storage_version_migration;
