//! How the source must look.

use std::path::Path;

use anyhow::Result;

/// What is wrong with the source under `crates/`.
pub fn check(_root: &Path) -> Result<Vec<String>> {
    Ok(Vec::new())
}
