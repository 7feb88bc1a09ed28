//! As much of SPDY/3.1 as Kubernetes speaks: streams that the client opens, data both ways, half-close and reset.
//!
//! Flow-control windows are not kept, since the Go implementation on the other side (moby/spdystream) keeps none: a
//! stream that is not read holds up its connection, as it does there.

mod connection;
mod dictionary;
mod frame;
mod headers;

#[cfg(test)]
pub use connection::testing;
pub use connection::{Connection, Control, Input, Output, Stream};
pub use frame::reset;
