//! Which crate may use which: the table in `ARCHITECTURE.md` against what cargo says, and the purity of layers 1 to 3.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::tidy;

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    layer: String,
    may: BTreeSet<String>,
}

/// What a pure crate must not name, and why not.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "runs tasks"),
    // Addresses are values; sockets are not.
    ("TcpStream", "opens sockets"),
    ("TcpListener", "opens sockets"),
    ("UdpSocket", "opens sockets"),
    ("ToSocketAddrs", "resolves names"),
    ("std::fs", "touches files"),
    ("std::process", "starts programs"),
    ("Instant::now", "reads the clock"),
    ("SystemTime::now", "reads the clock"),
    ("Timestamp::now", "reads the clock"),
    ("Zoned::now", "reads the clock"),
    ("rand::", "draws randomness"),
    ("Uuid::new_v4", "draws randomness"),
];

/// What is wrong with the crates.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let table = read_table(&text);
    if table.is_empty() {
        bail!("ARCHITECTURE.md has no table of crates");
    }
    let uses = dependencies(root)?;
    let mut complaints = Vec::new();
    for (name, used) in &uses {
        match table.get(name) {
            None => complaints.push(format!("{name}: not in the table of ARCHITECTURE.md")),
            Some(row) if row.layer == "dev" => {}
            Some(_) => {
                let allowed = closure(name, &table);
                let wrong = used.iter().filter(|other| !allowed.contains(*other));
                complaints.extend(wrong.map(|other| format!("{name}: may not depend on {other}")));
            }
        }
    }
    for (name, row) in &table {
        if matches!(row.layer.as_str(), "1" | "2" | "3") && uses.contains_key(name) {
            complaints.extend(impurities(root, name)?);
        }
    }
    Ok(complaints)
}

/// The table's rows by crate.
fn read_table(text: &str) -> BTreeMap<String, Row> {
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [layer, name, _, may] = cells.as_slice() else { continue };
        let is_layer = *layer == "dev" || layer.parse::<u8>().is_ok();
        if let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')).filter(|_| is_layer) {
            let may = may.split([',', ' ']).map(|name| name.trim_matches('`')).filter(|name| !name.is_empty());
            let row = Row { layer: (*layer).to_owned(), may: may.map(str::to_owned).collect() };
            table.insert(name.to_owned(), row);
        }
    }
    table
}

/// What a crate may depend on: what its row says, and what those may.
fn closure(name: &str, table: &BTreeMap<String, Row>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut pending = vec![name.to_owned()];
    while let Some(name) = pending.pop() {
        let Some(row) = table.get(&name) else { continue };
        if row.may.contains("all") {
            return table.keys().cloned().collect();
        }
        for other in &row.may {
            if found.insert(other.clone()) {
                pending.push(other.clone());
            }
        }
    }
    found
}

/// The crates of this workspace each one uses, its tests aside.
fn dependencies(root: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)))?;
    let packages: Vec<&Value> = metadata["packages"].as_array().into_iter().flatten().collect();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let uses = packages.iter().filter_map(|package| {
        let used = package["dependencies"].as_array().into_iter().flatten();
        let used = used.filter(|dependency| dependency["kind"] != "dev").filter_map(|one| one["name"].as_str());
        Some((
            package["name"].as_str()?.to_owned(),
            used.filter(|one| names.contains(one)).map(str::to_owned).collect(),
        ))
    });
    Ok(uses.collect())
}

/// Where a pure crate reaches outside, comments and tests aside.
fn impurities(root: &Path, name: &str) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for path in tidy::sources(&root.join("crates").join(name).join("src"))? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display();
        for (index, line) in tidy::without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (word, why) in IMPURE.iter().filter(|(word, _)| names_path(code, word)) {
                complaints.push(format!("{shown}:{}: {name} is pure, `{word}` {why}", index + 1));
            }
        }
    }
    Ok(complaints)
}

/// Whether a line names a path, as more than the end of a longer name and outside of string literals.
fn names_path(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + path.len()..].chars().next();
        let is_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let quotes = code[..at].matches('"').count();
        !is_word(before) && (path.ends_with(':') || !is_word(after)) && quotes.is_multiple_of(2)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_keep_to_the_table() {
        let complaints = check(&crate::root()).expect("the workspace can be read");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }

    #[test]
    fn rows_are_read_and_followed() {
        let text = "| layer | crate | knows | may |\n|---|---|---|---|\n| 1 | `a` | x | - |\n| 2 | `b` | x | a |\n| 4 | `c` | x | b |\n";
        let table = read_table(text);
        assert_eq!(table.len(), 3);
        assert!(closure("c", &table).contains("a"));
        assert!(!closure("b", &table).contains("c"));
    }

    #[test]
    fn words_are_found_in_code_only() {
        assert!(names_path("use tokio::sync;", "tokio"));
        assert!(!names_path("let x = operand::y;", "rand::"));
        assert!(!names_path("let x = \"tokio\";", "tokio"));
    }
}
