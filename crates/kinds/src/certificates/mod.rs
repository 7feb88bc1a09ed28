//! The kinds of the group `certificates.k8s.io`: a file each.

pub mod certificate_signing_request;
pub mod cluster_trust_bundle;
pub mod pod_certificate_request;
mod signer;
