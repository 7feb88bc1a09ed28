//! Kubeconfig files: one of our own for the administrator, and the same context merged into the user's.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::files::{FileError, make_private_dir, read_if_present, update_file};
use crate::pki::Pair;

/// The name of our cluster, user and context in a kubeconfig.
pub const CONTEXT: &str = "windlass";

#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path}: not a kubeconfig: {reason}")]
    Unreadable { path: std::path::PathBuf, reason: String },
    #[error("{path}: the cluster \"windlass\" in it is another one, at {server}: rename or delete that one first")]
    Taken { path: std::path::PathBuf, server: String },
}

/// Where a client finds the API server and who it is there.
#[derive(Clone, Debug)]
pub struct Access<'a> {
    pub server: &'a str,
    pub ca_certificate: &'a str,
    pub user: &'a str,
    pub client: &'a Pair,
}

/// A kubeconfig of one context, as YAML.
pub fn render(access: &Access) -> String {
    let entry = Entries::of(access);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [entry.cluster],
        "users": [entry.user],
        "contexts": [entry.context],
        "current-context": CONTEXT,
    });
    to_yaml(&config)
}

/// A kubeconfig whose certificates are files, the client's one with its key, so that it outlives their renewal.
pub fn of_files(server: &str, ca: &Path, user: &str, client: &Path) -> String {
    to_yaml(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": user, "user": {"client-certificate": client, "client-key": client}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user}}],
        "current-context": CONTEXT,
    }))
}

/// Writes the kubeconfig, a new one readable by its owner alone.
pub fn write(path: &Path, access: &Access) -> Result<(), KubeconfigError> {
    if let Some(parent) = path.parent() {
        make_private_dir(parent)?;
    }
    Ok(update_file(path, render(access).as_bytes(), 0o600)?)
}

/// Puts our context into the kubeconfig at `path` (made when absent) and leaves everything else in it alone; it becomes
/// the current one only when there was none. A file that cannot be read as a kubeconfig is not touched, nor is one in which
/// our name stands for another cluster.
pub fn merge_into(path: &Path, access: &Access) -> Result<(), KubeconfigError> {
    let Some(text) = read_if_present(path)?.filter(|text| !text.trim().is_empty()) else {
        return write(path, access);
    };
    let unreadable = |reason: String| KubeconfigError::Unreadable { path: path.to_owned(), reason };
    let mut config: Value = serde_yaml_ng::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    if let Some(server) = another(&config, access) {
        return Err(KubeconfigError::Taken { path: path.to_owned(), server: server.to_owned() });
    }
    let map = config.as_object_mut().ok_or_else(|| unreadable("not a mapping".to_owned()))?;
    let entry = Entries::of(access);
    for (list, item) in [("clusters", entry.cluster), ("users", entry.user), ("contexts", entry.context)] {
        put(map, list, item).map_err(unreadable)?;
    }
    let current = map.get("current-context").and_then(Value::as_str).unwrap_or_default();
    if current.is_empty() {
        map.insert("current-context".to_owned(), CONTEXT.into());
    }
    Ok(update_file(path, to_yaml(&config).as_bytes(), 0o600)?)
}

/// Takes our context out of the kubeconfig at `path`, if it leads to the cluster of this authority: another cluster may
/// have put its own there since. Answers whether it did.
pub fn remove_from(path: &Path, ca_certificate: &str) -> Result<bool, KubeconfigError> {
    let Some(mut config) = read(path)?.filter(|config| leads_to(config, ca_certificate)) else { return Ok(false) };
    let Some(map) = config.as_object_mut() else { return Ok(false) };
    for list in ["clusters", "users", "contexts"] {
        if let Some(items) = map.get_mut(list).and_then(Value::as_array_mut) {
            let user = format!("{CONTEXT}-");
            let ours = |name: &str| name == CONTEXT || list == "users" && name.starts_with(&user);
            items.retain(|item| !item["name"].as_str().is_some_and(ours));
        }
    }
    if map.get("current-context").and_then(Value::as_str) == Some(CONTEXT) {
        map.insert("current-context".to_owned(), "".into());
    }
    update_file(path, to_yaml(&config).as_bytes(), 0o600)?;
    Ok(true)
}

/// Deletes the kubeconfig at `path` if it leads to the cluster of this authority. Answers whether it did.
pub fn delete(path: &Path, ca_certificate: &str) -> Result<bool, KubeconfigError> {
    if !read(path)?.is_some_and(|config| leads_to(&config, ca_certificate)) {
        return Ok(false);
    }
    std::fs::remove_file(path).map_err(crate::files::at(path))?;
    Ok(true)
}

fn read(path: &Path) -> Result<Option<Value>, KubeconfigError> {
    let unreadable =
        |e: serde_yaml_ng::Error| KubeconfigError::Unreadable { path: path.to_owned(), reason: e.to_string() };
    read_if_present(path)?.map(|text| serde_yaml_ng::from_str(&text).map_err(unreadable)).transpose()
}

/// Whether our context in a kubeconfig trusts this authority.
fn leads_to(config: &Value, ca_certificate: &str) -> bool {
    let clusters = config["clusters"].as_array().into_iter().flatten();
    let mut ours = clusters.filter(|cluster| cluster["name"] == CONTEXT);
    ours.any(|cluster| cluster["cluster"]["certificate-authority-data"] == STANDARD.encode(ca_certificate))
}

/// The server of another cluster that has our name in a kubeconfig. A cluster of another authority at our own address is an
/// older one of ours, and one of our authority is ours at an older address.
fn another<'a>(config: &'a Value, access: &Access) -> Option<&'a str> {
    let ca = STANDARD.encode(access.ca_certificate);
    let clusters = config["clusters"].as_array().into_iter().flatten();
    let mut named = clusters.filter(|cluster| cluster["name"] == CONTEXT).map(|cluster| &cluster["cluster"]);
    let other = named
        .find(|cluster| cluster["certificate-authority-data"] != ca.as_str() && cluster["server"] != access.server)?;
    Some(other["server"].as_str().unwrap_or("an unknown address"))
}

struct Entries {
    cluster: Value,
    user: Value,
    context: Value,
}

impl Entries {
    fn of(access: &Access) -> Self {
        Self {
            cluster: json!({"name": CONTEXT, "cluster": {
                "server": access.server,
                "certificate-authority-data": STANDARD.encode(access.ca_certificate),
            }}),
            user: json!({"name": format!("{CONTEXT}-{}", access.user), "user": {
                "client-certificate-data": STANDARD.encode(&access.client.certificate),
                "client-key-data": STANDARD.encode(&access.client.key),
            }}),
            context: json!({"name": CONTEXT, "context": {
                "cluster": CONTEXT, "user": format!("{CONTEXT}-{}", access.user),
            }}),
        }
    }
}

fn put(config: &mut Map<String, Value>, list: &str, item: Value) -> Result<(), String> {
    let entry = config.entry(list).or_insert(Value::Null);
    if entry.is_null() {
        *entry = json!([]);
    }
    let items = entry.as_array_mut().ok_or_else(|| format!("{list} is not a list"))?;
    match items.iter_mut().find(|old| old["name"] == item["name"]) {
        Some(old) => *old = item,
        None => items.push(item),
    }
    Ok(())
}

fn to_yaml(config: &Value) -> String {
    #[allow(clippy::expect_used, reason = "a JSON value of strings, lists and maps is always YAML")]
    serde_yaml_ng::to_string(config).expect("JSON is YAML")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: fn() -> Pair = || Pair { certificate: "c".to_owned(), key: "k".to_owned() };

    #[test]
    fn merging_keeps_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: prod\nclusters:\n- name: prod\n  cluster: {server: https://p}\nusers: null\n",
        )
        .unwrap();
        let pair = PAIR();
        let access = Access { server: "https://127.0.0.1:6443", ca_certificate: "ca", user: "admin", client: &pair };
        merge_into(&path, &access).unwrap();
        merge_into(&path, &access).unwrap();
        let merged: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(merged["current-context"], "prod");
        assert_eq!(merged["clusters"].as_array().unwrap().len(), 2);
        assert_eq!(merged["users"][0]["name"], "windlass-admin");
        assert!(!remove_from(&path, "another").unwrap());
        assert!(remove_from(&path, "ca").unwrap());
        let removed: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(removed["clusters"].as_array().unwrap().len(), 1);
        assert_eq!(removed["contexts"].as_array().unwrap().len(), 0);
        assert_eq!(removed["users"].as_array().unwrap().len(), 0);
        assert!(!delete(&path, "ca").unwrap() && path.exists());
    }

    #[test]
    fn a_file_that_is_no_kubeconfig_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "- just\n- a list\n").unwrap();
        let pair = PAIR();
        let access = Access { server: "s", ca_certificate: "ca", user: "admin", client: &pair };
        assert!(merge_into(&path, &access).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "- just\n- a list\n");
    }

    #[test]
    fn another_cluster_of_our_name_stays_and_an_older_one_of_ours_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let pair = PAIR();
        let access = |server, ca_certificate| Access { server, ca_certificate, user: "admin", client: &pair };
        merge_into(&path, &access("https://old:6443", "old")).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let error = merge_into(&path, &access("https://new:6443", "new")).unwrap_err();
        assert!(matches!(&error, KubeconfigError::Taken { server, .. } if server == "https://old:6443"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        let trusts = |server, ca| {
            merge_into(&path, &access(server, ca)).unwrap();
            let merged = read(&path).unwrap().unwrap();
            assert_eq!(merged["clusters"].as_array().unwrap().len(), 1);
            assert_eq!(merged["clusters"][0]["cluster"]["server"], server);
            assert!(leads_to(&merged, ca));
        };
        // Made anew at the same address, then moved to another.
        trusts("https://old:6443", "new");
        trusts("https://new:6443", "new");
    }
}
