//! What every API kind has in common, and nothing of any one kind.
//!
//! Here are the generic parts of the Kubernetes API: error answers ([`status`]), field errors ([`field`]), name
//! rules ([`names`]), selectors ([`labels`], [`fields`]), identifiers of kinds ([`gvk`]), the metadata of an object
//! and its stored form ([`object`]), structural schemas ([`schema`]), strict decoding ([`decode`]), patches
//! ([`patch`]), server-side apply ([`mod@apply`]), [`cel`], quantities and durations.
//!
//! The crate knows no kind by name, opens nothing, reads no clock (a `jiff::Timestamp` is an argument) and keeps no
//! state. Start reading with [`schema`]: most of the rest is driven by it.

pub mod apply;
pub mod cel;
pub mod decode;
pub mod duration;
pub mod field;
pub mod fields;
pub mod go;
pub mod gvk;
pub mod labels;
pub mod names;
pub mod object;
pub mod patch;
pub mod quantity;
pub mod schema;
pub mod status;
