//! What an update may touch, where objects are stored, and what is wrong with metadata.

#![allow(clippy::expect_used, reason = "tests")]

use kinds::{Kind, Subresource};
use serde_json::{Value, json};

fn kind(group: &str, plural: &str) -> &'static Kind {
    kinds::by_resource(group, "v1", plural).expect("a built-in kind")
}

fn deployment() -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "n", "uid": "u", "generation": 1, "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"a": "b"}},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": []}}},
        "status": {"replicas": 1},
    });
    kind("apps", "deployments").default(&mut object);
    object
}

#[test]
fn an_update_keeps_the_status_and_counts_the_spec() {
    let kind = kind("apps", "deployments");
    let old = deployment();
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(3);
    new["status"]["replicas"] = json!(9);
    new["metadata"]["generation"] = json!(77);
    new["metadata"].as_object_mut().expect("metadata").remove("uid");
    kind.prepare_for_update(&mut new, &old);
    assert_eq!(new["metadata"]["generation"], 2);
    assert_eq!(new["metadata"]["uid"], "u");
    assert_eq!(new["status"]["replicas"], 1);
    let mut same = old.clone();
    kind.prepare_for_update(&mut same, &old);
    assert_eq!(same, old);
}

#[test]
fn a_status_update_keeps_the_spec_and_the_labels() {
    let kind = kind("apps", "deployments");
    let old = deployment();
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(3);
    new["status"]["replicas"] = json!(9);
    new["metadata"]["labels"] = json!({"x": "y"});
    kind.prepare_for_subresource(&Subresource::Status, &mut new, &old);
    assert_eq!(new["spec"], old["spec"]);
    assert_eq!(new["status"]["replicas"], 9);
    assert_eq!(new["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(new["metadata"]["generation"], 1);
}

#[test]
fn keys_are_upstreams() {
    let mut keys: Vec<String> = kinds::KINDS
        .iter()
        .filter(|kind| !kind.storage_prefix.is_empty())
        .map(|kind| format!("{} {}", kind.names.plural, kind.key("ns", "name")))
        .filter(|line| {
            let (plural, key) = line.split_once(' ').unwrap_or_default();
            key != format!("/registry/{plural}/ns/name") && key != format!("/registry/{plural}/name")
        })
        .collect();
    keys.sort();
    insta::assert_snapshot!(keys.join("\n"), @r"
    apiservices /registry/apiregistration.k8s.io/apiservices/name
    customresourcedefinitions /registry/apiextensions.k8s.io/customresourcedefinitions/name
    endpoints /registry/services/endpoints/ns/name
    ingresses /registry/ingress/ns/name
    nodes /registry/minions/name
    replicationcontrollers /registry/controllers/ns/name
    services /registry/services/specs/ns/name
    ");
}

#[test]
fn metadata_is_checked() {
    let pods = kind("", "pods");
    let pod = json!({"metadata": {
        "name": "A_b", "namespace": "", "labels": {"a b": "x", "ok": "-"}, "annotations": {"/": ""},
        "finalizers": ["x y"], "ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": ""}],
    }});
    let errors = pods.validate(&pod, None);
    let of_metadata = errors.iter().filter(|error| error.field.starts_with("metadata"));
    let mut fields: Vec<String> = of_metadata.map(|error| format!("{} {:?}", error.field, error.kind)).collect();
    fields.dedup();
    insta::assert_snapshot!(fields.join("\n"), @r"
    metadata.name Invalid
    metadata.namespace Required
    metadata.labels Invalid
    metadata.annotations Invalid
    metadata.ownerReferences[0].uid Required
    metadata.ownerReferences[0] Invalid
    metadata.finalizers Invalid
    metadata.finalizers[0] Invalid
    ");
}
