//! Versions of custom resources, converted by a webhook, and what a changed schema does to what is stored.

use base64::Engine as _;
use futures::StreamExt;
use serde_json::{Value, json};

use super::hooks::serve_json;
use super::support::Cluster;
use super::{Server, get, merge, send, watch};

/// `v1` has `spec.host`, `v2` `spec.address`.
fn convert(_: &http::request::Parts, review: &Value) -> Value {
    let request = &review["request"];
    let convert = |object: &Value| {
        let mut object = object.clone();
        let (from, to) =
            if request["desiredAPIVersion"] == "x.io/v2" { ("host", "address") } else { ("address", "host") };
        let value = object["spec"].as_object_mut().unwrap().remove(from).unwrap_or_default();
        object["spec"][to] = value;
        object["apiVersion"] = request["desiredAPIVersion"].clone();
        object
    };
    let converted: Vec<Value> = request["objects"].as_array().unwrap().iter().map(convert).collect();
    json!({
        "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
        "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted},
    })
}

fn version(name: &str, storage: bool, field: &str) -> Value {
    json!({
        "name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {field: {"type": "string"}}},
        }}},
    })
}

async fn define(server: &Server, conversion: Value) {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "hosts.x.io"},
        "spec": {
            "group": "x.io", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"},
            "versions": [version("v1", true, "host"), version("v2", false, "address")], "conversion": conversion,
        },
    });
    let answer = send(server, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    assert_eq!(answer.0, 201, "{}", answer.1);
    while get(server, "/apis/x.io/v2/hosts").await.0 != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

const V1: &str = "/apis/x.io/v1/namespaces/default/hosts";
const V2: &str = "/apis/x.io/v2/namespaces/default/hosts";

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_converts_between_versions() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let port = serve_json(&cluster.serving_identity("converter"), convert).await;
    let bundle = base64::engine::general_purpose::STANDARD.encode(&cluster.ca);
    let config = json!({"url": format!("https://127.0.0.1:{port}/convert"), "caBundle": bundle});
    define(
        server,
        json!({"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}}),
    )
    .await;
    let host = |version: &str, name: &str, spec: Value| json!({"apiVersion": format!("x.io/{version}"), "kind": "Host", "metadata": {"name": name}, "spec": spec});
    assert_eq!(send(server, "POST", V1, &host("v1", "a", json!({"host": "one"}))).await.0, 201);
    let (code, made) = send(server, "POST", V2, &host("v2", "b", json!({"address": "two"}))).await;
    assert_eq!((code, &made["spec"]), (201, &json!({"address": "two"})), "{made}");
    let (_, read) = get(server, &format!("{V2}/a")).await;
    assert_eq!((&read["spec"], &read["apiVersion"]), (&json!({"address": "one"}), &json!("x.io/v2")));
    let (_, list) = get(server, V1).await;
    let specs: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|item| &item["spec"]).collect();
    assert_eq!(specs, [&json!({"host": "one"}), &json!({"host": "two"})]);
    let (_, patched) = merge(server, &format!("{V2}/a"), &json!({"spec": {"address": "three"}})).await;
    assert_eq!(patched["spec"], json!({"address": "three"}), "{patched}");
    let mut events = watch(server, &format!("{V2}?watch=1")).await;
    assert_eq!(events.next().await.unwrap()["object"]["spec"], json!({"address": "three"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_read_by_the_schema_of_today() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    define(server, json!({"strategy": "None"})).await;
    let host = json!({"apiVersion": "x.io/v1", "kind": "Host", "metadata": {"name": "a"}, "spec": {"host": "one"}});
    assert_eq!(send(server, "POST", V1, &host).await.0, 201);
    let mut later = version("v1", true, "host");
    later["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({"port": {"type": "integer", "default": 80}});
    let patch = json!({"spec": {"versions": [later, version("v2", false, "address")]}});
    assert_eq!(
        merge(server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/hosts.x.io", &patch).await.0,
        200
    );
    for _ in 0..100 {
        if get(server, &format!("{V1}/a")).await.1["spec"] == json!({"port": 80}) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(get(server, V1).await.1["items"][0]["spec"], json!({"port": 80}));
}
