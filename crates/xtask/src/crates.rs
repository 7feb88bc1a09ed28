//! Which crate may use which: the table in `ARCHITECTURE.md` against what cargo says, the purity of layers 1 to 3, and
//! that every dependency is one.

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
    let metadata = metadata(root)?;
    let uses = dependencies(&metadata);
    let mut complaints = unused(root, &metadata)?;
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

/// What cargo says of the workspace's crates.
fn metadata(root: &Path) -> Result<Vec<Value>> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    let mut metadata: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)))?;
    match metadata["packages"].take() {
        Value::Array(packages) => Ok(packages),
        _ => bail!("cargo metadata names no packages"),
    }
}

/// A crate's dependencies: name, and whether its tests alone have it.
fn declared(package: &Value) -> impl Iterator<Item = (&str, bool)> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter_map(|one| Some((one["name"].as_str()?, one["kind"] == "dev")))
}

/// The crates of this workspace each one uses, its tests aside.
fn dependencies(packages: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let uses = packages.iter().filter_map(|package| {
        let used = declared(package).filter(|(name, dev)| !dev && names.contains(name));
        Some((package["name"].as_str()?.to_owned(), used.map(|(name, _)| name.to_owned()).collect()))
    });
    uses.collect()
}

/// Dependencies that no source names: of a crate, and of the workspace.
fn unused(root: &Path, packages: &[Value]) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let directory = root.join("crates").join(name);
        let code = code(&directory, &["src", "examples", "build.rs"])?;
        let tests = code.clone() + &self::code(&directory, &["tests", "benches"])?;
        for (dependency, dev) in declared(package) {
            if !names_crate(if dev { &tests } else { &code }, dependency) {
                complaints.push(format!("{name}: does not use its dependency {dependency}"));
            }
        }
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("Cargo.toml")?;
    let used: BTreeSet<&str> = packages.iter().flat_map(declared).map(|(name, _)| name).collect();
    let shared = workspace_dependencies(&manifest).filter(|name| !used.contains(name));
    complaints.extend(shared.map(|name| format!("Cargo.toml: no crate has the dependency {name}")));
    Ok(complaints)
}

/// The names under `[workspace.dependencies]`, each of which begins a line.
fn workspace_dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let table = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    table.take_while(|line| !line.starts_with('[')).filter_map(|line| Some(line.split_once(" = ")?.0))
}

/// The text of a crate's sources in these places, comments aside.
fn code(directory: &Path, places: &[&str]) -> Result<String> {
    let mut code = String::new();
    let mut pending: Vec<_> = places.iter().map(|place| directory.join(place)).filter(|path| path.exists()).collect();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                pending.push(entry?.path());
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            code.extend(text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]));
        }
    }
    Ok(code)
}

/// Whether code names a crate: a path that begins with it, an import of it whole, or an attribute.
fn names_crate(code: &str, dependency: &str) -> bool {
    let name = dependency.replace('-', "_");
    code.match_indices(&name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let begins = !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-'));
        begins && (after.starts_with("::") || before.ends_with("use ") && after.starts_with([';', ' ']))
    })
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
    fn a_dependency_is_used_where_a_path_begins_with_it() {
        assert!(names_crate("let x = serde_json::json!({});", "serde-json"));
        assert!(names_crate("pub use mvcc;", "mvcc"));
        assert!(!names_crate("let kinds = crate::kinds::all();", "kinds"));
        assert!(!names_crate("use tokio_util::x;", "tokio"));
        let manifest = "[workspace.dependencies]\n# Ours.\na-b = \"1\"\nc = { path = \"c\" }\n\n[profile.dev]\nd = 1\n";
        assert_eq!(workspace_dependencies(manifest).collect::<Vec<_>>(), ["a-b", "c"]);
    }

    #[test]
    fn words_are_found_in_code_only() {
        assert!(names_path("use tokio::sync;", "tokio"));
        assert!(!names_path("let x = operand::y;", "rand::"));
        assert!(!names_path("let x = \"tokio\";", "tokio"));
    }
}
