//! Our discovery documents equal those upstream publishes, for every resource that is on by default.

#![allow(clippy::expect_used, reason = "tests")]

mod upstream;

use serde_json::Value;

/// Alpha and beta versions are off by default.
fn is_on(version: &str) -> bool {
    !version.contains("alpha") && !version.contains("beta")
}

fn sorted(mut items: Vec<Value>, by: &str) -> Vec<Value> {
    items.sort_by_key(|item| item[by].as_str().unwrap_or_default().to_owned());
    items
}

/// The kinds that upstream's own API server has; `metrics.k8s.io` is another project's.
fn upstreams() -> Vec<&'static kinds::Kind> {
    kinds::KINDS.iter().copied().filter(|kind| kind.group != "metrics.k8s.io").collect()
}

#[test]
fn the_aggregated_document_is_upstreams() {
    let directory = upstream::module("k8s.io/kubernetes@v1.37.2").join("api/discovery");
    let mut theirs = upstream::json(&directory.join("aggregated_v2.json"));
    let groups = theirs["items"].as_array_mut().expect("items");
    for group in groups.iter_mut() {
        let versions = group["versions"].as_array_mut().expect("versions");
        versions.retain(|version| is_on(version["version"].as_str().expect("version")));
    }
    groups.retain(|group| group["versions"].as_array().is_some_and(|versions| !versions.is_empty()));
    let ours = kinds::discovery::aggregated(&upstreams());
    assert_eq!(ours["kind"], theirs["kind"]);
    assert_eq!(ours["apiVersion"], theirs["apiVersion"]);
    let (ours, theirs) = (ours["items"].as_array().expect("items"), theirs["items"].as_array().expect("items"));
    let names = |groups: &[Value]| groups.iter().map(|group| group["metadata"]["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs));
    for (our, their) in ours.iter().zip(theirs) {
        assert_eq!(our, their);
    }
}

#[test]
fn the_plain_documents_are_upstreams() {
    let directory = upstream::module("k8s.io/kubernetes@v1.37.2").join("api/discovery");
    for entry in std::fs::read_dir(&directory).expect("discovery").map(|entry| entry.expect("entry")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let document = upstream::json(&entry.path());
        let Some(group_version) = document["groupVersion"].as_str().filter(|_| document["kind"] == "APIResourceList")
        else {
            continue;
        };
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        if !is_on(version) {
            continue;
        }
        let ours = kinds::discovery::resource_list(&upstreams(), group, version).expect(&name);
        let list = |document: &Value| sorted(document["resources"].as_array().expect("resources").clone(), "name");
        let strip = |mut resource: Value| {
            let fields = resource.as_object_mut().expect("object");
            fields.remove("storageVersionHash");
            if fields.get("group").is_some_and(|group| group == "") {
                fields.remove("group");
                fields.remove("version");
            }
            resource
        };
        let theirs: Vec<Value> = list(&document).into_iter().map(strip).collect();
        // A few kinds are stored in another version than upstream's, whose mark is another.
        let ours: Vec<Value> = list(&ours).into_iter().map(strip).collect();
        assert_eq!(ours, theirs, "{name}");
    }
}
