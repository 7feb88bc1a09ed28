//! Structural schemas: what a value may look like, for built-in kinds and CustomResourceDefinitions alike.
//!
//! A [`Schema`] is a shared, immutable node. Built-in kinds make theirs from type facts, where named definitions
//! refer to each other through [`Shape::Ref`] (looked up when first walked, so recursion is no trouble); a
//! CustomResourceDefinition's is read from its `openAPIV3Schema`. Everything that must know a
//! type's shape walks these nodes: defaulting, pruning, type checks, validation, strategic merge and apply.

mod node;
mod rule;
mod validation;
mod walk;

pub use node::{Definitions, Field, List, ListKind, Map, Node, Patch, Reference, Schema, Shape, Struct};
pub use rule::Rule;
pub use validation::Validation;
