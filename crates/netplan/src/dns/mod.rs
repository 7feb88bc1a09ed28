//! The cluster's DNS: what each name and address means, from Services, EndpointSlices and Namespaces. The wire and the
//! sockets are `net`'s.
//!
//! kubernetes/dns docs/specification.md says which names there are; what it leaves open (names of endpoints without a
//! host name, pods' names for any address, NXDOMAIN against an empty answer) is as CoreDNS's kubernetes plugin does it.

mod answer;
mod zone;

pub use answer::{Answer, Data, Kind, Record, TTL_SECONDS, answer};
pub use zone::Zone;
