//! The kinds of the group `discovery.k8s.io`: a file each.

pub mod endpoint_slice;

pub use crate::discovered::{aggregated, aggregated_core, api_versions, group, group_list, resource_list};
