//! A group that another API server serves.

use serde_json::{Value, json};

use super::hooks::serve_json;
use super::support::Cluster;
use super::{Server, call, delete, get, get_as, send, user};

/// Another API server: its resource list, and one object that says who asked.
fn flunders(asked: &http::request::Parts, _: &Value) -> Value {
    let header = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
    match asked.uri.path() {
        "/apis/wardle.x.io/v1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.x.io/v1", "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            ],
        }),
        path => json!({"path": path, "user": header("x-remote-user"), "group": header("x-remote-group")}),
    }
}

async fn register(server: &Server, port: u16) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    assert_eq!(send(server, "POST", "/api/v1/namespaces/default/services", &service).await.0, 201);
    let registered = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.wardle.x.io"},
        "spec": {
            "group": "wardle.x.io", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "wardle", "port": port},
        },
    });
    let answer = send(server, "POST", "/apis/apiregistration.k8s.io/v1/apiservices", &registered).await;
    assert_eq!(answer.0, 201, "{}", answer.1);
}

const FLUNDER: &str = "/apis/wardle.x.io/v1/namespaces/default/flunders/a";

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_group_is_served_elsewhere() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let port = serve_json(&cluster.serving_identity("wardle"), flunders).await;
    assert_eq!(get(server, FLUNDER).await.0, 404);
    register(server, port).await;
    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1.wardle.x.io";
    for _ in 0..200 {
        if get(server, path).await.1["status"]["conditions"][0]["status"] == "True" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (_, registered) = get(server, path).await;
    assert_eq!(registered["status"]["conditions"][0]["message"], "all checks passed", "{registered}");
    let (code, answer) = get(server, FLUNDER).await;
    assert_eq!((code, &answer["user"], &answer["path"]), (200, &json!("admin"), &json!(FLUNDER)));
    assert_eq!(get_as(server, user("jane"), FLUNDER).await.0, 403);
    let (_, groups) = get(server, "/apis").await;
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "wardle.x.io"));
    let (_, group) = get(server, "/apis/wardle.x.io").await;
    assert_eq!(group["preferredVersion"]["groupVersion"], "wardle.x.io/v1");
    assert_eq!(call(server, "POST", FLUNDER, "application/json", "{}".to_owned()).await.0, 200);
    assert_eq!(delete(server, path).await.0, 200);
    let gone = async {
        while get(server, FLUNDER).await.0 != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
}
