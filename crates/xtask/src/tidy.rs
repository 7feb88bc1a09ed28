//! How the source must look: files and functions short enough to read in one sitting, each file saying what it is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Lines of a file, its tests aside.
const FILE_LINES_MAX: usize = 900;
/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// What is wrong with the source under `crates/`.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in sources(&root.join("crates"))? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        complaints.extend(complaints_of(&text).into_iter().map(|(line, what)| format!("{shown}:{line}: {what}")));
    }
    Ok(complaints)
}

/// Every Rust file but tests and generated code, sorted.
pub fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !matches!(name.as_str(), "target" | "tests" | "generated" | "benches") {
                pending.push(path);
            } else if name.ends_with(".rs") && !matches!(name.as_str(), "tests.rs" | "build.rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The part of a file before its test module; nothing of a file that is wholly one (`#![cfg(test)]`).
pub fn without_tests(text: &str) -> &str {
    if text.contains("\n#![cfg(test)]\n") {
        return "";
    }
    match text.find("\n#[cfg(test)]\nmod ") {
        Some(at) => &text[..at],
        None => text,
    }
}

/// The complaints of one file, each with its line.
fn complaints_of(text: &str) -> Vec<(usize, String)> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push((1, "does not begin with `//!` and what the file is".to_owned()));
    }
    let body = without_tests(text);
    let lines: Vec<&str> = body.lines().collect();
    if lines.len() > FILE_LINES_MAX {
        complaints.push((FILE_LINES_MAX, format!("{} lines, at most {FILE_LINES_MAX}", lines.len())));
    }
    for (index, line) in lines.iter().enumerate() {
        let marker = ["todo", "unimplemented"].iter().find(|name| line.trim_start().starts_with(&format!("{name}!(")));
        if let Some(name) = marker {
            complaints.push((index + 1, format!("`{name}!` left in")));
        }
        if let Some(length) = function_length(&lines[index..])
            && length > FUNCTION_LINES_MAX
        {
            complaints.push((index + 1, format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}")));
        }
    }
    complaints
}

/// The length of the function that starts on the first line, if one does. Relies on formatted source: a function ends
/// with a brace on the column it began on.
fn function_length(lines: &[&str]) -> Option<usize> {
    let first = lines.first()?;
    let start = first.trim_start();
    let indent = first.len() - start.len();
    let mut words = start.split_whitespace();
    let is_modifier = |word: &&str| {
        word.starts_with("pub") || matches!(*word, "async" | "const" | "unsafe" | "extern" | "\"C\"" | "default")
    };
    if words.find(|word| !is_modifier(word)) != Some("fn") {
        return None;
    }
    if start.ends_with('}') || start.ends_with(';') {
        return Some(1);
    }
    let close = format!("{}}}", " ".repeat(indent));
    let end_of_declaration = format!("{});", " ".repeat(indent));
    for (index, line) in lines.iter().enumerate().skip(1) {
        if *line == close {
            return Some(index + 1);
        }
        if line.starts_with(&end_of_declaration) {
            return Some(1);
        }
        // A trait's method without a body ends before any brace opens.
        if line.ends_with(';') && !lines[..index].iter().any(|line| line.ends_with('{')) {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_tidy() {
        let complaints = check(&crate::root()).expect("the source can be read");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn a_long_function_is_found() {
        let body = "    x();\n".repeat(80);
        let text = format!("//! A file.\n\npub async fn long() {{\n{body}}}\n\nfn short() {{\n    y();\n}}\n");
        let found = complaints_of(&text);
        assert_eq!(found, [(3, "a function of 82 lines, at most 70".to_owned())]);
        assert_eq!(complaints_of("fn x() {}\n").len(), 1);
    }
}
