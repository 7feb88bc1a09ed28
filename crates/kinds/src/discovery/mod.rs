//! The kinds of the group `discovery.k8s.io`: a file each.

pub mod endpoint_slice;
