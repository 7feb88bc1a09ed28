//! The kinds of the group `apiregistration.k8s.io`: a file each.

pub mod api_service;
