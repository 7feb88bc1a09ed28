//! The network of a node: interfaces and addresses of pods, services as nftables rules, the cluster's DNS. All of it by
//! netlink, with no other program. What should be there is decided in `netplan`; this crate makes it so. It knows no
//! container and no pod worker: the kubelet reaches it through `pods::ports::Network`.
//!
//! Start with [`BridgeNetwork`] (the pod network).

mod addresses;
mod bridge;
mod namespace;
mod netlink;
mod nft;
mod pod_rules;
mod route;
#[cfg(test)]
mod tests;

pub use bridge::{BridgeConfig, BridgeNetwork};
pub use netplan::Cidr;
