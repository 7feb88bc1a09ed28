//! The API server: HTTPS and an in-process door, who is asking and whether they may, the generic verbs over a
//! [`store::Store`], the watch cache, subresources, discovery and OpenAPI.
//!
//! It deliberately knows no kind's fields: what differs between kinds stands in their [`kinds::Kind`], and there is a
//! file per verb, never a handler per kind. It holds no state of its own but caches: everything durable is in the store.
//!
//! Start with [`server::ApiServer`], then follow a request through `pipeline.rs`, `dispatch.rs` and `verbs/`.

mod admission;
mod aggregate;
mod allocate;
mod authn;
mod authz;
mod cache;
mod caches;
mod catalog;
mod codec;
mod compact;
mod computed;
mod context;
mod conversion;
mod crd;
mod dangling;
mod dial;
mod discovery;
mod dispatch;
mod fairness;
mod gauges;
mod health;
mod hooks;
pub mod http;
mod kubelet;
mod managed;
mod metrics;
mod negotiate;
mod openapi;
mod pipeline;
mod query;
mod registry;
mod request_info;
mod respond;
mod reviews;
mod route;
mod select;
mod server;
mod startup;
mod strategy;
mod subresources;
mod table;
mod trust;
mod usage;
mod verbs;
mod view;
pub mod zero_times;

pub use admit::UserInfo;
pub use authn::token::{SECRET_ISSUER, Signer};
pub use metrics::SyncTimes;
pub use server::{ApiServer, Config, FrontProxy, KubeletClient, StartError};
