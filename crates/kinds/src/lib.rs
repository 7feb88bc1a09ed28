//! Every API kind: one file each, listed once in [`KINDS`].
//!
//! All that is known of a kind (names, versions, scope, verbs, subresources, defaults, update rules, printer columns,
//! field selectors, storage prefix) stands in its file `src/<group>/<kind>.rs`; what is true of a *type* wherever it is
//! used (fields, required, list types, merge keys, protobuf numbers) stands in the generated table under `facts/`.
//! Routes, discovery, storage keys, apply schemas and tables are derived from the two. A CustomResourceDefinition
//! becomes the same [`Kind`] value at run time.
//!
//! This crate deliberately knows no HTTP, no storage engine and no clock: `now` is an argument.
//!
//! Start with [`kind`], then one kind of your choice, for example `apps/deployment.rs`.

pub mod columns;
pub mod complete;
pub mod custom;
pub mod defaults;
mod discovered;
pub mod facts;
pub mod kind;
pub mod meta;
pub mod nodefit;
pub mod parameters;
pub mod prepare;
pub mod protobuf;
pub mod quota;
pub mod registered;
pub mod resources;
mod table;
pub mod validate;

pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod metrics;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;

pub use kind::{Columns, Computed, Conversion, Generation, Kind, Names, ScalePaths, Scope, Subresource, Verbs};
pub use table::{KINDS, by_kind, by_resource};
