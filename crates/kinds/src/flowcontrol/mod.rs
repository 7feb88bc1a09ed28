//! The kinds of the group `flowcontrol.apiserver.k8s.io`: a file each.

pub mod flow_schema;
pub mod priority_level_configuration;
