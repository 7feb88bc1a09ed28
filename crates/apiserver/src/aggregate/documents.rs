//! What other API servers serve, in the documents that clients discover everything by.
//!
//! `kubernetes/kube-aggregator pkg/apiserver/{handler_apis,handler_discovery}.go`: where it stands in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use machinery::status::Status;
use serde_json::{Value, json};

use super::{Registered, call, remotes};
use crate::server::Inner;

/// The aggregated document of `/apis` with the other servers' groups in it.
pub fn aggregated(server: &Inner, mut document: Value) -> Value {
    for (group, versions) in by_group(server) {
        let versions = versions.iter().map(|registered| {
            let list = server.aggregated.get(&registered.name);
            let fresh = registered.available && list.is_some();
            json!({
                "version": registered.version,
                "resources": list.map(|list| merged_resources(&list)).unwrap_or_default(),
                "freshness": if fresh { "Current" } else { "Stale" },
            })
        });
        let item = |versions: Vec<Value>| json!({ "metadata": { "name": group, "creationTimestamp": null }, "versions": versions });
        insert(
            &mut document["items"],
            |known| known["metadata"]["name"] == group.as_str(),
            "version",
            versions.collect(),
            item,
        );
    }
    document
}

/// The plain document of `/apis`.
pub fn groups(server: &Inner, mut document: Value) -> Value {
    for (group, versions) in by_group(server) {
        let named = named(&group, &versions);
        let item = |versions: Vec<Value>| json!({ "name": group, "versions": versions, "preferredVersion": named[0] });
        insert(&mut document["groups"], |known| known["name"] == group.as_str(), "version", named.clone(), item);
    }
    document
}

/// The plain document of `/apis/<group>`.
pub fn group(server: &Inner, name: &str, document: Option<Value>) -> Option<Value> {
    let Some(versions) = by_group(server).remove(name) else { return document };
    let named = named(name, &versions);
    let fresh = || json!({ "kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [], "preferredVersion": named[0] });
    let mut document = document.unwrap_or_else(fresh);
    if let Some(known) = document["versions"].as_array_mut() {
        put(known, "version", named.clone());
    }
    Some(document)
}

/// The index of OpenAPI documents: those of other servers are asked for there.
pub fn index(server: &Inner, paths: &mut serde_json::Map<String, Value>) {
    for registered in remotes(server).iter().filter(|registered| registered.available) {
        let path = format!("apis/{}/{}", registered.group, registered.version);
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({ "serverRelativeURL": url }));
    }
}

/// Another server's OpenAPI document.
pub async fn openapi(server: &Inner, path: &str) -> Option<Result<Value, Status>> {
    let mut steps = path.split('/');
    let (Some("apis"), Some(group), Some(version), None) = (steps.next(), steps.next(), steps.next(), steps.next())
    else {
        return None;
    };
    let registered = super::serving(server, group, version)?;
    Some(match call::get(server, &registered, &format!("/openapi/v3/{path}")).await {
        Ok((StatusCode::OK, document)) => Ok(document),
        Ok((code, _)) => Err(Status::service_unavailable(format!("{}: {code}", registered.name))),
        Err(error) => Err(Status::service_unavailable(error)),
    })
}

fn by_group(server: &Inner) -> BTreeMap<String, Vec<Arc<Registered>>> {
    let mut groups: BTreeMap<String, Vec<Arc<Registered>>> = BTreeMap::new();
    for registered in remotes(server) {
        groups.entry(registered.group.clone()).or_default().push(registered);
    }
    for versions in groups.values_mut() {
        versions.sort_by_key(|registered| {
            std::cmp::Reverse((registered.version_priority, kinds::custom::rank(&registered.version)))
        });
    }
    groups
}

fn named(group: &str, versions: &[Arc<Registered>]) -> Vec<Value> {
    let one = |registered: &Arc<Registered>| json!({ "groupVersion": format!("{group}/{}", registered.version), "version": registered.version });
    versions.iter().map(one).collect()
}

/// Puts versions into the group that is there, or adds the group.
fn insert(
    list: &mut Value,
    is: impl Fn(&Value) -> bool,
    key: &str,
    versions: Vec<Value>,
    item: impl FnOnce(Vec<Value>) -> Value,
) {
    let Some(list) = list.as_array_mut() else { return };
    match list.iter_mut().find(|known| is(known)).and_then(|known| known["versions"].as_array_mut()) {
        Some(known) => put(known, key, versions),
        None => list.push(item(versions)),
    }
}

/// A version of another server takes the place of this one's own.
fn put(known: &mut Vec<Value>, key: &str, versions: Vec<Value>) {
    for version in versions {
        match known.iter_mut().find(|one| one[key] == version[key]) {
            Some(own) => *own = version,
            None => known.push(version),
        }
    }
}

/// An `APIResourceList` as the aggregated form has it: subresources below their resource.
pub fn merged_resources(list: &Value) -> Vec<Value> {
    let (group, version) = list["groupVersion"].as_str().and_then(|text| text.rsplit_once('/')).unwrap_or_default();
    let or = |own: &Value, default: &str| match own.as_str() {
        None | Some("") => json!(default),
        Some(text) => json!(text),
    };
    let speaks = |of: &Value| json!({ "group": or(&of["group"], group), "version": or(&of["version"], version), "kind": of["kind"] });
    let mut merged: Vec<Value> = Vec::new();
    for resource in list["resources"].as_array().into_iter().flatten() {
        let name = resource["name"].as_str().unwrap_or_default();
        match name.split_once('/') {
            None => {
                let mut entry = json!({
                    "resource": name, "responseKind": speaks(resource), "verbs": resource["verbs"],
                    "scope": if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
                    "singularResource": resource["singularName"].as_str().unwrap_or_default(),
                });
                for list in ["shortNames", "categories"] {
                    if resource[list].is_array() {
                        entry[list] = resource[list].clone();
                    }
                }
                merged.push(entry);
            }
            Some((parent, subresource)) => {
                let entry = json!({
                    "subresource": subresource, "responseKind": speaks(resource), "verbs": resource["verbs"],
                });
                let Some(parent) = merged.iter_mut().find(|known| known["resource"] == parent) else { continue };
                match parent["subresources"].as_array_mut() {
                    Some(list) => list.push(entry),
                    None => parent["subresources"] = json!([entry]),
                }
            }
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_told_with_their_subresources() {
        let list = json!({"groupVersion": "x.io/v1", "resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["update"]},
        ]});
        let kind = json!({"group": "x.io", "version": "v1", "kind": "Flunder"});
        let wanted = json!([{
            "resource": "flunders", "responseKind": kind, "verbs": ["get"], "scope": "Namespaced", "singularResource": "flunder",
            "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["update"]}],
        }]);
        assert_eq!(Value::Array(merged_resources(&list)), wanted);
    }
}
