//! Every controller of the cluster, as decisions only.
//!
//! A controller is two functions: `gather` looks objects up in the [`Cache`] and decides nothing;
//! `plan` decides from that view and looks nothing up. What it decided is a [`Plan`]: actions on
//! objects, a status to write, events to tell, and when to look again. The crate knows no client,
//! no clock and no thread; `runner` fills the cache, calls [`Controller::sync`] and executes plans.
//!
//! Start with [`controller`] (the shapes), then `replicaset.rs` (the plainest controller). The table
//! [`CONTROLLERS`] lists all of them; the garbage collector, which works on every resource at once,
//! stands apart in [`gc`], and so does the removal of a namespace's content in `namespace.rs`.

pub mod backoff;
pub mod cache;
pub mod controller;
pub mod csr;
pub mod gc;
pub mod meta;
pub mod namespace;
pub mod plan;
pub mod podstate;
pub mod ports;
pub mod resource;
pub mod selector;
pub mod settings;

mod binder;
mod bootstrap;
mod claim;
mod clusterroles;
mod cronjob;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod ephemeral;
mod fence;
mod hash;
mod history;
mod job;
mod nodehealth;
mod nodeipam;
mod nodettl;
mod podgc;
mod protection;
pub mod quota;
pub mod range;
mod replicaset;
mod rootca;
mod serviceaccount;
mod servicecidr;
mod statefulset;
mod tainteviction;
mod template;
mod tokens;
mod ttl;

pub use cache::{Cache, Change, Key, Of, Source};
pub use controller::{CONTROLLERS, Controller, Cx, Failure};
pub use plan::{Action, Event, IfExists, Note, Owner, Plan, Propagation, Subresource, Verb};
pub use resource::Resource;
pub use settings::Settings;

#[cfg(test)]
mod scenario;
