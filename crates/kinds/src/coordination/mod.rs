//! The kinds of the group `coordination.k8s.io`: a file each.

pub mod lease;
