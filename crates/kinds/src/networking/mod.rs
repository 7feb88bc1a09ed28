//! The kinds of the group `networking.k8s.io`: a file each.

pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod network_policy;
pub mod service_cidr;
