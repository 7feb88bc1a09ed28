//! The kinds of the group `events.k8s.io`: a file each.

pub mod event;
pub(crate) mod rules;
