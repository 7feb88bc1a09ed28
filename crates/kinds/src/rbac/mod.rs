//! The kinds of the group `rbac.authorization.k8s.io`: a file each.

pub mod cluster_role;
pub mod cluster_role_binding;
pub mod role;
pub mod role_binding;
mod validate;
