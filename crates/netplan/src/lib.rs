//! What the network of a node should be, as data: services and their endpoints as a rule set and the difference of two
//! such sets, addresses, and the answers of the cluster's DNS. Nothing here opens a socket: `net` carries it out.
//!
//! Start with [`Cidr`].

mod cidr;

pub use cidr::{Cidr, CidrError};
