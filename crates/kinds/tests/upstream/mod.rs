//! Where upstream's published data lies on this machine.

#![allow(dead_code, clippy::expect_used, reason = "a test helper; each test binary uses a part")]

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The directory of a Go module, from the module cache or through the module proxy.
pub fn module(name: &str) -> PathBuf {
    let output = Command::new("go")
        .args(["mod", "download", "-json", name])
        .current_dir(std::env::temp_dir())
        .output()
        .expect("the go command runs");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("go answers in JSON");
    PathBuf::from(answer["Dir"].as_str().unwrap_or_else(|| panic!("{name}: {answer}")))
}

/// A JSON file.
pub fn json(path: &std::path::Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
