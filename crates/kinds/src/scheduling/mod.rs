//! The kinds of the group `scheduling.k8s.io`: a file each.

pub mod priority_class;
