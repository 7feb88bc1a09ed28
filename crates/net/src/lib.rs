//! The network of a node: interfaces and addresses of pods, services as nftables rules, the cluster's DNS. All of it by
//! netlink, with no other program. What should be there is decided in `netplan`; this crate makes it so. It knows no
//! container and no pod worker: the kubelet reaches it through `pods::ports::Network`.
//!
//! Start with [`BridgeNetwork`] (the pod network), [`NodeRoutes`] (between nodes), [`ServiceProxy`], [`NetworkPolicies`] and [`Dns`]. Pods reach the DNS by its Service,
//! whose endpoint is the gateway's address and [`DNS_PORT`]; the header of `dns` says why.

mod addresses;
mod bridge;
mod conntrack;
mod dns;
mod forward;
mod health_ports;
mod http;
mod namespace;
mod netlink;
mod network_policies;
mod nft;
mod node_routes;
mod pod_rules;
mod policy_rules;
mod proxy_status;
mod route;
mod service_proxy;
mod service_rules;
#[cfg(test)]
mod tests;
mod vxlan;
mod watch;

pub use bridge::{BridgeConfig, BridgeNetwork};
pub use dns::{DNS_PORT, Dns, DnsConfig};
pub use netplan::{Cidr, NodeView};
pub use network_policies::{NetworkPolicies, PolicyConfig};
pub use node_routes::{NodeRoutes, RoutesConfig};
pub use service_proxy::{ProxyConfig, ProxyError, ServiceProxy};
pub use watch::Cache;
