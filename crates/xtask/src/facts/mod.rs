//! The type facts: what upstream's published, machine-readable API says of every type, as one compact table.
//!
//! Sources: the OpenAPI documents of `k8s.io/kubernetes` (fields, types, required, defaults, list types, merge keys),
//! the generated definitions that they come from (enumerations) and the Go struct tags of the API modules (protobuf
//! numbers, whether an empty field is written, query parameters). No prose is taken over. `crates/kinds/src/facts.rs`
//! and `parameters.rs` read the result and explain the keys.

mod enums;
mod go;
mod modules;
mod openapi;
mod parameters;
mod unpublished;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

/// The version of Kubernetes whose API this is.
pub const KUBERNETES: &str = "v1.37.2";
/// The same for the modules numbered 0.x.
pub const STAGING: &str = "v0.37.2";

/// Where the table lives.
pub fn directory(root: &Path) -> PathBuf {
    root.join("crates/kinds/facts")
}

/// Generates the table: file name to contents.
pub fn generate() -> Result<BTreeMap<String, String>> {
    let kubernetes = modules::directory("k8s.io/kubernetes", KUBERNETES)?;
    let mut definitions = openapi::definitions(&kubernetes)?;
    let enums = enums::Enums::read(&kubernetes)?;
    let mut packages = BTreeMap::new();
    for unpublished in &unpublished::UNPUBLISHED {
        if let Some(package) = source_of(unpublished.package)? {
            definitions.extend(unpublished::definitions(unpublished, &package)?);
        }
    }
    let mut files: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for name in wanted(&definitions) {
        let (Some(schema), Some((package, type_name))) = (definitions.get(&name), name.rsplit_once('.')) else {
            continue;
        };
        if !packages.contains_key(package) {
            packages.insert(package.to_owned(), source_of(package)?);
        }
        let source = packages.get(package).and_then(Option::as_ref);
        let tags = source.and_then(|source| source.fields(type_name));
        let source = openapi::Source { name: &name, tags: tags.as_ref(), package: source, enums: &enums };
        let fact = openapi::fact(schema, &source).with_context(|| name.clone())?;
        files.entry(file_of(package)).or_default().insert(name.clone(), fact);
    }
    let mut all: BTreeMap<String, String> = files.into_iter().map(|(file, facts)| (file, render(facts))).collect();
    all.insert("registered.txt".to_owned(), registered()?);
    all.insert("parameters.json".to_owned(), render(parameters::table(&kubernetes)?));
    Ok(all)
}

/// Every version and kind that upstream has a published object of, a line each: `apps/v1beta1 Deployment`.
fn registered() -> Result<String> {
    let directory = modules::directory("k8s.io/api", STAGING)?.join("testdata/HEAD");
    let mut lines = BTreeSet::new();
    for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // `apps.v1beta1.Deployment.json`; the group may have dots.
        let Some(mut parts) = name.strip_suffix(".json").map(|name| name.rsplitn(3, '.')) else { continue };
        if let (Some(kind), Some(version), Some(group)) = (parts.next(), parts.next(), parts.next()) {
            let group = if group == "core" { String::new() } else { format!("{group}/") };
            lines.insert(format!("{group}{version} {kind}\n"));
        }
    }
    Ok(lines.into_iter().collect())
}

/// Writes the table and removes files it no longer has.
pub fn write(root: &Path) -> Result<usize> {
    let directory = directory(root);
    fs::create_dir_all(&directory)?;
    let files = generate()?;
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !files.contains_key(&name) {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    for (name, text) in &files {
        fs::write(directory.join(name), text).with_context(|| name.clone())?;
    }
    Ok(files.len())
}

/// What differs between the committed table and a fresh one.
pub fn stale(root: &Path) -> Result<Vec<String>> {
    let directory = directory(root);
    let files = generate()?;
    let mut complaints = Vec::new();
    for (name, text) in &files {
        match fs::read_to_string(directory.join(name)) {
            Ok(found) if found == *text => {}
            Ok(_) => complaints.push(format!("{name} is stale: run `cargo xtask facts`")),
            Err(error) => complaints.push(format!("{name}: {error}: run `cargo xtask facts`")),
        }
    }
    for entry in fs::read_dir(&directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !files.contains_key(&name) {
            complaints.push(format!("{name} is no longer generated: run `cargo xtask facts`"));
        }
    }
    Ok(complaints)
}

/// The definitions of stable versions, and what those refer to.
fn wanted(definitions: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let is_stable = |name: &&String| name.rsplit_once('.').is_some_and(|(package, _)| !is_unstable(package));
    let mut pending: Vec<String> = definitions.keys().filter(is_stable).cloned().collect();
    let mut wanted = BTreeSet::new();
    while let Some(name) = pending.pop() {
        if let Some(schema) = definitions.get(&name)
            && wanted.insert(name)
        {
            openapi::references(schema, &mut pending);
        }
    }
    wanted
}

/// One entry a line, so that a change of upstream's shows as a change of lines.
fn render(facts: BTreeMap<String, Value>) -> String {
    let lines: Vec<String> = facts.into_iter().map(|(name, fact)| format!("\"{name}\":{fact}")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

/// Alpha and beta versions are off by default and not served; `metrics.k8s.io` is beta only in name.
fn is_unstable(package: &str) -> bool {
    if package == unpublished::METRICS {
        return false;
    }
    let version = package.rsplit('.').next().unwrap_or_default();
    version.contains("alpha") || version.contains("beta")
}

/// `io.k8s.api.core.v1` is in `core.v1.json`; what has no version of its own in `apimachinery.json`.
fn file_of(package: &str) -> String {
    let mut parts = package.rsplit('.');
    match (parts.next(), parts.next()) {
        (Some(version), Some(group)) if version.starts_with('v') && version != "version" => {
            format!("{group}.{version}.json")
        }
        _ => "apimachinery.json".to_owned(),
    }
}

/// The Go package behind an OpenAPI package; none where the OpenAPI document says everything.
fn source_of(package: &str) -> Result<Option<go::Package>> {
    let (module, path) = if let Some(rest) = package.strip_prefix("io.k8s.api.") {
        ("k8s.io/api", rest.replace('.', "/"))
    } else if package == "io.k8s.apimachinery.pkg.apis.meta.v1" {
        ("k8s.io/apimachinery", "pkg/apis/meta/v1".to_owned())
    } else if let Some(rest) = package.strip_prefix("io.k8s.apiextensions-apiserver.") {
        ("k8s.io/apiextensions-apiserver", rest.replace('.', "/"))
    } else if let Some(rest) = package.strip_prefix("io.k8s.kube-aggregator.") {
        ("k8s.io/kube-aggregator", rest.replace('.', "/"))
    } else if let Some(rest) = package.strip_prefix("io.k8s.metrics.") {
        ("k8s.io/metrics", rest.replace('.', "/"))
    } else {
        return Ok(None);
    };
    let directory = modules::directory(module, STAGING)?.join(path);
    Ok(Some(go::Package::read(&directory)?))
}

/// A map from pairs, leaving out what is absent.
fn object(pairs: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let map: Map<String, Value> =
        pairs.into_iter().filter_map(|(key, value)| value.map(|value| (key.to_owned(), value))).collect();
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_table_is_current() {
        let complaints = super::stale(&crate::root()).expect("upstream's modules can be read");
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}
