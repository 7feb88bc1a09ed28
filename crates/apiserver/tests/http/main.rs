//! The wire itself: revisions, watches, pages, conflicts, finalizers, limits.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's")]

mod beside;
mod deletion;
mod documents;
mod figures;
mod hooks;
mod lists;
mod policies;
mod protobuf;
mod remote;
mod rights;
mod subresources;
#[path = "../support/mod.rs"]
mod support;
mod versions;

use bytes::Bytes;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use support::Cluster;

type Server = apiserver::ApiServer;

fn admin() -> apiserver::UserInfo {
    apiserver::UserInfo::new("admin", &["system:masters"])
}

fn body(bytes: impl Into<Bytes>) -> apiserver::http::Body {
    apiserver::http::full(bytes)
}

fn user(name: &str) -> apiserver::UserInfo {
    apiserver::UserInfo::new(name, &[])
}

/// What a user is answered: the code and the body.
async fn call_as(
    server: &Server,
    user: apiserver::UserInfo,
    method: &str,
    path: &str,
    content: &str,
    text: String,
) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("content-type", content).body(body(text)).unwrap();
    let response = server.call(user, request).await;
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
}

async fn call(server: &Server, method: &str, path: &str, content: &str, text: String) -> (u16, Value) {
    call_as(server, admin(), method, path, content, text).await
}

async fn send(server: &Server, method: &str, path: &str, value: &Value) -> (u16, Value) {
    call(server, method, path, "application/json", value.to_string()).await
}

async fn send_as(server: &Server, name: &str, method: &str, path: &str, value: &Value) -> (u16, Value) {
    call_as(server, user(name), method, path, "application/json", value.to_string()).await
}

async fn merge(server: &Server, path: &str, patch: &Value) -> (u16, Value) {
    call(server, "PATCH", path, "application/merge-patch+json", patch.to_string()).await
}

async fn delete(server: &Server, path: &str) -> (u16, Value) {
    call(server, "DELETE", path, "", String::new()).await
}

async fn get(server: &Server, path: &str) -> (u16, Value) {
    call(server, "GET", path, "", String::new()).await
}

async fn get_as(server: &Server, user: apiserver::UserInfo, path: &str) -> (u16, Value) {
    call_as(server, user, "GET", path, "", String::new()).await
}

/// The text of a refusal.
fn words(answer: &(u16, Value)) -> &str {
    answer.1["message"].as_str().unwrap_or_default()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

/// The events of a watch, one JSON value each.
async fn watch(server: &Server, path: &str) -> futures::stream::BoxStream<'static, Value> {
    let request = Request::builder().uri(path).body(body("")).unwrap();
    let response = server.call(admin(), request).await;
    assert_eq!(response.status().as_u16(), 200);
    let lines = response.into_body().into_data_stream().flat_map(|piece| {
        let piece = piece.unwrap();
        let events: Vec<Value> = serde_json::Deserializer::from_slice(&piece).into_iter().map(Result::unwrap).collect();
        futures::stream::iter(events)
    });
    Box::pin(lines)
}

fn told(event: &Value) -> String {
    let name = event.pointer("/object/metadata/name").and_then(Value::as_str).unwrap_or("-");
    format!("{} {name}", event["type"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_writes_conflict_and_unchanged_ones_keep_the_revision() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let (code, made) = send(server, "POST", MAPS, &map("a")).await;
    assert_eq!(code, 201);
    let path = format!("{MAPS}/a");
    let (code, same) = send(server, "PUT", &path, &made).await;
    assert_eq!((code, &same["metadata"]["resourceVersion"]), (200, &made["metadata"]["resourceVersion"]));
    let mut changed = made.clone();
    changed["data"]["k"] = json!("w");
    assert_eq!(send(server, "PUT", &path, &changed).await.0, 200);
    let (code, status) = send(server, "PUT", &path, &made).await;
    assert_eq!(code, 409);
    assert_eq!(
        status["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let (code, status) = send(server, "POST", MAPS, &map("a")).await;
    assert_eq!((code, status["reason"].as_str()), (409, Some("AlreadyExists")));
    let dry = send(server, "POST", &format!("{MAPS}?dryRun=All"), &map("dry")).await;
    assert_eq!((dry.0, get(server, &format!("{MAPS}/dry")).await.0), (201, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_no_version_all_succeed_however_many_come_at_once() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    assert_eq!(send(server, "POST", MAPS, &map("a")).await.0, 201);
    let path = format!("{MAPS}/a");
    let patches = (0..24).map(|number| {
        let (path, patch) = (path.clone(), json!({"data": {format!("k{number}"): "v"}}));
        async move { merge(server, &path, &patch).await.0 }
    });
    let codes = futures::future::join_all(patches).await;
    assert_eq!(codes, vec![200; 24]);
    assert_eq!(get(server, &path).await.1["data"].as_object().unwrap().len(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_every_change_after_its_revision_and_selectors_choose() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let (_, list) = get(server, MAPS).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut labelled = map("a");
    labelled["metadata"]["labels"] = json!({"x": "y"});
    send(server, "POST", MAPS, &labelled).await;
    send(server, "POST", MAPS, &map("b")).await;
    call(
        server,
        "PATCH",
        &format!("{MAPS}/a"),
        "application/merge-patch+json",
        r#"{"metadata":{"labels":{"x":"z"}}}"#.into(),
    )
    .await;
    call(server, "DELETE", &format!("{MAPS}/b"), "", String::new()).await;
    let all = watch(server, &format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    let all: Vec<String> = all.take(4).map(|event| told(&event)).collect().await;
    assert_eq!(all, ["ADDED a", "ADDED b", "MODIFIED a", "DELETED b"]);
    let chosen = watch(server, &format!("{MAPS}?watch=1&resourceVersion={from}&labelSelector=x%3Dy")).await;
    let chosen: Vec<String> = chosen.take(2).map(|event| told(&event)).collect().await;
    assert_eq!(chosen, ["ADDED a", "DELETED a"]);
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&fieldSelector=metadata.name%3Da";
    let initial = watch(server, &format!("{MAPS}?{query}")).await;
    let initial: Vec<Value> = initial.take(2).collect().await;
    assert_eq!(initial.iter().map(told).collect::<Vec<_>>(), ["ADDED a", "BOOKMARK -"]);
    assert_eq!(initial[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_before_the_server_began_is_told_to_list_again() {
    let store = std::sync::Arc::new(store::Embedded::in_memory(store::Options::default()));
    let first = Cluster::start_on(store.clone(), 0).await;
    send(&first.server, "POST", MAPS, &map("a")).await;
    let second = Cluster::start_on(store, 0).await;
    assert_eq!(get(&second.server, &format!("{MAPS}/a")).await.0, 200);
    let old = watch(&second.server, &format!("{MAPS}?watch=1&resourceVersion=2")).await.next().await.unwrap();
    assert_eq!((old["type"].as_str(), &old["object"]["code"]), (Some("ERROR"), &json!(410)));
    assert!(old["object"]["message"].as_str().unwrap().starts_with("too old resource version: 2 ("), "{old}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_one_revision() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    for name in ["a", "b", "c", "d", "e"] {
        send(server, "POST", MAPS, &map(name)).await;
    }
    let (_, first) = get(server, &format!("{MAPS}?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    call(server, "DELETE", &format!("{MAPS}/c"), "", String::new()).await;
    let mut seen: Vec<String> = Vec::new();
    let mut page = first;
    loop {
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = get(server, &format!("{MAPS}?limit=2&continue={token}")).await.1;
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    let (code, status) = get(server, &format!("{MAPS}?continue=nonsense")).await;
    assert_eq!((code, status["reason"].as_str()), (400, Some("BadRequest")));
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let mut held = map("h");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    send(server, "POST", MAPS, &held).await;
    let path = format!("{MAPS}/h");
    let (code, marked) = call(server, "DELETE", &path, "", String::new()).await;
    assert_eq!(code, 200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let (_, marked) = delete(server, &format!("{path}?propagationPolicy=Foreground")).await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["example.com/hold", "foregroundDeletion"]));
    let none = r#"{"metadata":{"finalizers":null}}"#;
    assert_eq!(call(server, "PATCH", &path, "application/merge-patch+json", none.into()).await.0, 200);
    assert_eq!(get(server, &path).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_unknown_paths_are_answered_as_upstream_does() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let (code, status) = call(server, "POST", MAPS, "application/json", "x".repeat(3 * 1024 * 1024 + 1)).await;
    assert_eq!((code, status["message"].as_str()), (413, Some("Request entity too large: limit is 3145728")));
    let (code, status) = call(server, "POST", MAPS, "text/csv", "a,b".into()).await;
    assert_eq!((code, status["reason"].as_str()), (415, Some("UnsupportedMediaType")));
    assert_eq!(get(server, "/apis/none/v1/things").await.0, 404);
    let (code, status) = send(server, "POST", "/api/v1/namespaces/none/configmaps", &map("a")).await;
    assert_eq!((code, status["message"].as_str()), (404, Some("namespaces \"none\" not found")));
    let (code, status) = call(server, "DELETE", "/api/v1/namespaces/default", "", String::new()).await;
    assert_eq!((code, status["reason"].as_str()), (403, Some("Forbidden")));
    let (_, version) = get(server, "/version").await;
    assert_eq!((version["major"].as_str(), version["minor"].as_str()), (Some("1"), Some("37")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_parsed_is_refused_and_shown() {
    let cluster = Cluster::start().await;
    const JSON: &str = "couldn't get version/kind; json parse error: ";
    for (media, body, words) in [
        (
            "json",
            "{not json",
            format!("{JSON}invalid character 'n' looking for beginning of object key string ({{not json)"),
        ),
        ("json", "", format!("{JSON}unexpected end of JSON input (<empty>)")),
        (
            "json",
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}"#,
            format!("{JSON}unexpected end of JSON input ({{\"apiVersion\":\"v1\",\"kind\":\"Con ...)"),
        ),
        (
            "json",
            "[]",
            JSON.to_owned()
                + r#"json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)"#,
        ),
        ("yaml", "a: [b", "yaml: line 1: did not find expected ',' or ']' (613a205b62)".to_owned()),
    ] {
        let (code, status) = call(&cluster.server, "POST", MAPS, &format!("application/{media}"), body.into()).await;
        assert_eq!((code, status["reason"].as_str()), (400, Some("BadRequest")), "{body}");
        let message = format!("the object provided is unrecognized (must be of type ConfigMap): {words}");
        assert_eq!(status["message"].as_str(), Some(message.as_str()), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_pod_waits_for_its_kubelet() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    send(server, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"},
        "spec": {"containers": [{"name": "c", "image": "x"}]}});
    let (code, made) = send(server, "POST", pods, &pod).await;
    assert_eq!(code, 201, "{made}");
    let name = made["metadata"]["name"].as_str().unwrap();
    assert_eq!(name.len(), 7);
    let path = format!("{pods}/{name}");
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "n"}});
    assert_eq!(send(server, "POST", &format!("{path}/binding"), &binding).await.0, 201);
    let (code, status) = send(server, "POST", &format!("{path}/binding"), &binding).await;
    assert_eq!(code, 409);
    assert!(status["message"].as_str().unwrap().contains("is already assigned to node \"n\""), "{status}");
    let (_, bound) = get(server, &path).await;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let (code, deleting) = call(server, "DELETE", &path, "", String::new()).await;
    assert_eq!((code, &deleting["metadata"]["deletionGracePeriodSeconds"]), (200, &json!(30)));
    assert_eq!(get(server, &path).await.0, 200);
    assert_eq!(call(server, "DELETE", &format!("{path}?gracePeriodSeconds=0"), "", String::new()).await.0, 200);
    assert_eq!(get(server, &path).await.0, 404);
}
