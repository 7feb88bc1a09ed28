//! What the network of a node should be, as data: services and their endpoints as a rule set and the change from one
//! such set to the next, network policies, address ranges, and the answers of the cluster's DNS. Nothing here opens a
//! socket: `net` carries it out.
//!
//! Start with [`plan`] (one service to its [`Fragment`] of the rules), [`Rules`] (all of them), [`plan_policies`], and
//! [`dns::answer`].

mod cidr;
pub mod dns;
mod endpoints;
mod nodes;
mod policy;
mod rules;
mod service;

pub use cidr::{Cidr, CidrError};
pub use endpoints::{NodeView, Target};
pub use nodes::pods_elsewhere;
pub use policy::{Direction, Labels, Peer, PolicyPod, PolicyRules, PolicyStep, Ports, plan_policies};
pub use rules::{Change, Destination, Fragment, Place, Rules, SLOTS, Step, Value, diff};
pub use service::{Family, Protocol, cluster_ip, plan, service_key, slice_service_key};
