//! The client of an etcd: that it has the semantics of the embedded store, against a real etcd and against our own server,
//! and that what breaks on the way is neither lost nor done twice.
//!
//! `ETCD` names the program, by default `conformance/bin/etcd`, which `scripts/clients.sh` builds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "servers and relays of tests, which clippy does not take for tests"
)]

mod broken;
mod member;
mod relay;
mod semantics;
mod servers;
