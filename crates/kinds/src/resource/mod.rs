//! The kinds of the group `resource.k8s.io`: a file each.

pub mod device_class;
pub mod device_taint_rule;
pub mod resource_claim;
pub mod resource_claim_template;
pub mod resource_slice;
