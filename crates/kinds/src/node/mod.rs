//! The kinds of the group `node.k8s.io`: a file each.

pub mod runtime_class;
