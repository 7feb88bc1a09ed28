//! Rules of this repository that run as tests, and the generators of its committed tables.
//!
//! `cargo xtask facts` writes `crates/kinds/facts/` from upstream's published modules, `cargo xtask tidy` checks the
//! shape of the source, `cargo xtask crates` the table of crates in `ARCHITECTURE.md`. Each is a library function
//! with a test, so `cargo test -p xtask` runs them all. Nothing here is part of the product.

pub mod bench;
pub mod crates;
pub mod facts;
pub mod tidy;

use std::path::PathBuf;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).unwrap_or(here)
}
