//! Parameters of operations: the fields of the options' Go structs, and the marks by which OpenAPI v2 shares them.
//!
//! A shared parameter's name ends in a mark of its JSON text, prose included, so the marks are kept and the prose is not.
//! `kubernetes/kube-openapi pkg/builder/parameters.go: which are shared, and how they are called`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Value, json};

use super::{go, modules};

/// The types whose fields are query parameters, by the module and the directory of their package.
const OPTIONS: [(&str, &str, &[&str]); 2] = [
    (
        "k8s.io/apimachinery",
        "pkg/apis/meta/v1",
        &["CreateOptions", "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "UpdateOptions"],
    ),
    (
        "k8s.io/api",
        "core/v1",
        &[
            "NodeProxyOptions",
            "PodAttachOptions",
            "PodExecOptions",
            "PodLogOptions",
            "PodPortForwardOptions",
            "PodProxyOptions",
            "ServiceProxyOptions",
        ],
    ),
];

/// Query parameters that are told wherever they are used.
const UNSHARED: [&str; 2] = ["dryRun", "fieldValidation"];

/// Options of custom resources alone, which upstream's published document has none of.
const UNPUBLISHED: &str = "GetOptions";

/// The table: by options or place, each parameter's JSON type and mark.
pub fn table(kubernetes: &Path) -> Result<BTreeMap<String, Value>> {
    let path = kubernetes.join("api/openapi-spec/swagger.json");
    let document: Value = serde_json::from_slice(&fs::read(&path).with_context(|| path.display().to_string())?)?;
    let Some(published) = document["parameters"].as_object() else { bail!("{} shares nothing", path.display()) };
    let mut table = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (module, directory, types) in OPTIONS {
        let directory = modules::directory(module, super::STAGING)?.join(directory);
        let (package, words) = (go::Package::read(&directory)?, descriptions(&directory)?);
        for &options in types {
            let fields = package.fields(options).with_context(|| options.to_owned())?;
            let mut parameters = BTreeMap::new();
            for (name, field) in fields.iter().filter(|(_, field)| field.embedded.is_empty()) {
                let Some(of) = json_type(&field.go_type, &package) else { continue };
                let words = words.get(&(options.to_owned(), name.clone())).map_or("", String::as_str);
                let mark = if UNSHARED.contains(&name.as_str()) { String::new() } else { mark(name, of, words) };
                let shared = format!("{name}-{mark}");
                if !mark.is_empty() && options != UNPUBLISHED && !published.contains_key(&shared) {
                    bail!("{options}: upstream shares no {shared}");
                }
                known.insert(shared);
                parameters.insert(name.clone(), json!([of, mark]));
            }
            table.insert(options.to_owned(), json!(parameters));
        }
    }
    // What belongs to no options: in the path, the body, or of every operation.
    let mut others: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for (shared, parameter) in published.iter().filter(|(name, _)| !known.contains(*name)) {
        let (Some(place), Some(name)) = (parameter["in"].as_str(), parameter["name"].as_str()) else {
            bail!("{shared} has no name or place");
        };
        let mark = shared.get(name.len() + 1..).unwrap_or_default();
        let body =
            parameter.pointer("/schema/$ref").and_then(Value::as_str).and_then(|target| target.rsplit('.').next());
        let of = body.or_else(|| parameter["type"].as_str()).with_context(|| shared.clone())?;
        others.entry(place).or_default().insert(body.unwrap_or(name).to_owned(), json!([of, mark]));
    }
    table.extend(others.into_iter().map(|(place, parameters)| (place.to_owned(), json!(parameters))));
    Ok(table)
}

/// The JSON type of a field that is a parameter; none for structs.
/// `kubernetes/apiserver pkg/endpoints/installer.go: AddObjectParams, typeToJSON`.
fn json_type(go_type: &str, package: &go::Package) -> Option<&'static str> {
    match go_type.trim_start_matches('*').trim_start_matches("[]") {
        "bool" => Some("boolean"),
        "int32" | "int64" => Some("integer"),
        name if name.contains('.') || package.fields(name).is_some() => None,
        _ => Some("string"),
    }
}

/// The mark of a query parameter: a hash (FNV-1, 64 bits) of its JSON text, of which the first six bytes are told.
fn mark(name: &str, of: &str, words: &str) -> String {
    let words = if words.is_empty() { String::new() } else { format!("\"description\":{},", json!(words)) };
    let text = format!(r#"{{"uniqueItems":true,"type":"{of}",{words}"name":"{name}","in":"query"}}"#);
    let step = |hash: u64, byte: u8| hash.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    URL_SAFE.encode(&hash.to_be_bytes()[..6])
}

/// What a package says of its types' fields.
fn descriptions(directory: &Path) -> Result<BTreeMap<(String, String), String>> {
    let path = directory.join("types_swagger_doc_generated.go");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut descriptions = BTreeMap::new();
    let mut of = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("var map_").and_then(|rest| rest.split(' ').next()) {
            of = name;
        } else if let Some((field, words)) = line.strip_prefix("\t\"").and_then(|rest| rest.split_once("\":")) {
            let words = serde_json::from_str(words.trim().trim_end_matches(',')).with_context(|| line.to_owned())?;
            descriptions.insert((of.to_owned(), field.to_owned()), words);
        }
    }
    Ok(descriptions)
}
