//! Who may do what, and what is changed or refused on the way in: authorization (RBAC, Node) and admission, as pure
//! decisions over views that the API server hands in.
//!
//! It knows no HTTP, no store and no cache. Start reading at [`attributes`], then [`rbac`] and [`admission`].

pub mod admission;
pub mod attributes;
pub mod escalation;
pub mod hooks;
pub mod node;
pub mod policy;
pub mod rbac;

pub use attributes::{Attributes, Decision, UserInfo};
