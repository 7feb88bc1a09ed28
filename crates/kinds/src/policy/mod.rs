//! The kinds of the group `policy`: a file each.

pub mod pod_disruption_budget;
