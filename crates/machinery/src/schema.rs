//! Structural schemas: what a value may look like, for built-in kinds and CustomResourceDefinitions alike.
//!
//! A [`Schema`] is a shared, immutable node. Built-in kinds make theirs from type facts, where named definitions
//! refer to each other through [`Shape::Ref`] (looked up when first walked, so recursion is no trouble); a
//! CustomResourceDefinition's is read from its `openAPIV3Schema` by [`crd::parse`]. Everything that must know a
//! type's shape walks these nodes: defaulting and pruning here, validation of custom resources here too, decoding,
//! strategic merge and apply elsewhere.

mod checks;
pub mod crd;
mod format;
mod node;
pub mod re2;
mod rule;
mod structural;
mod validate;
mod validation;
mod walk;

pub use node::{Definitions, Field, List, ListKind, Map, Node, Patch, Reference, Schema, Shape, Struct};
pub use rule::Rule;
pub use validation::Validation;
