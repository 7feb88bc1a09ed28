//! Finds a Go module's directory through the `go` command: in its cache, else from the module proxy.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The directory of a module's unpacked source.
pub fn directory(module: &str, version: &str) -> Result<PathBuf> {
    let wanted = format!("{module}@{version}");
    let output = Command::new("go")
        .args(["mod", "download", "-json", &wanted])
        .current_dir(std::env::temp_dir())
        .env("GOFLAGS", "-mod=mod")
        .output()
        .context("the `go` command")?;
    let answer: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("go mod download {wanted} said no JSON"))?;
    match answer["Dir"].as_str() {
        Some(dir) => Ok(PathBuf::from(dir)),
        None => bail!("go mod download {wanted}: {}", answer["Error"].as_str().unwrap_or("no directory")),
    }
}
