//! The kinds of the group `authentication.k8s.io`: a file each.

pub mod self_subject_review;
pub mod token_review;
