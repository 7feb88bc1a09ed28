//! The kinds of the group `apiextensions.k8s.io`: a file each.

pub mod custom_resource_definition;
