//! The kinds of the group `autoscaling`: a file each.

pub mod horizontal_pod_autoscaler;
pub mod metrics;
mod validate;
