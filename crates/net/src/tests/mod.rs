//! The network on a real kernel: each test has a network namespace of its own as its node, so that tests neither see
//! one another nor the machine they run on, and nothing is left behind. They need root.

mod dns;
mod harness;
mod network_policies;
mod pod_network;
mod services;
