//! What the server says of itself: health, version, metrics, discovery, OpenAPI; and how it reads what it is sent.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::Cluster;
use crate::{MAPS, Server, call, delete, get, map, merge, send, words};

async fn text(server: &Server, path: &str) -> (u16, String) {
    let (code, body) = get(server, path).await;
    (code, body.as_str().map_or_else(|| body.to_string(), str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_check_by_check() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    for endpoint in ["healthz", "livez", "readyz"] {
        assert_eq!(text(server, &format!("/{endpoint}")).await, (200, "ok".to_owned()));
        let (code, lines) = text(server, &format!("/{endpoint}?verbose")).await;
        assert!(code == 200 && lines.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{lines}");
        assert!(lines.contains("[+]poststarthook/rbac/bootstrap-roles ok\n"), "{lines}");
        assert!(lines.ends_with(&format!("{endpoint} check passed\n")), "{lines}");
        assert_eq!(lines.contains("[+]informer-sync ok\n"), endpoint == "readyz");
        assert_eq!(text(server, &format!("/{endpoint}/poststarthook/rbac/bootstrap-roles")).await.1, "ok");
    }
    assert_eq!(text(server, "/readyz/none").await, (404, "404 page not found\n".to_owned()));
    let (_, lines) = text(server, "/readyz?verbose&exclude=etcd&exclude=none").await;
    assert!(lines.contains("[+]etcd excluded: ok\n[+]etcd-readiness ok\n"), "{lines}");
    assert!(lines.contains("warn: some health checks cannot be excluded: no matches for \"none\"\n"), "{lines}");
    server.stop();
    let (code, lines) = text(server, "/readyz").await;
    assert_eq!(code, 500);
    assert!(
        lines.contains("[-]shutdown failed: reason withheld\n") && lines.ends_with("readyz check failed\n"),
        "{lines}"
    );
    assert_eq!(text(server, "/readyz/shutdown").await.1, "internal server error: process is shutting down\n");
    assert_eq!(text(server, "/livez").await, (200, "ok".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_falls_behind_the_store_is_not_ready() {
    let store = std::sync::Arc::new(store::Embedded::in_memory(store::Options::default()));
    let cluster = Cluster::start_on(store.clone(), 0).await;
    assert_eq!(text(&cluster.server, "/readyz/informer-sync").await.1, "ok");
    // The caches stop with the server, the store goes on.
    cluster.server.stop();
    let behind = async {
        loop {
            store::Store::put(&*store, b"/registry/configmaps/default/late", "{}".into()).await.unwrap();
            let (code, told) = text(&cluster.server, "/readyz/informer-sync").await;
            if code == 500 {
                return told;
            }
        }
    };
    let told = tokio::time::timeout(std::time::Duration::from_secs(30), behind).await.unwrap();
    assert!(told.contains("Too large resource version"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_describes_itself() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    get(server, MAPS).await;
    let (code, metrics) = text(server, "/metrics").await;
    assert_eq!(code, 200);
    let counted = "apiserver_request_total{verb=\"LIST\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"configmaps\",subresource=\"\",scope=\"namespace\",component=\"apiserver\",code=\"200\"} 1\n";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("apiserver_request_duration_seconds_bucket{"), "{metrics}");
    let (_, index) = get(server, "/openapi/v3").await;
    let path = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let (code, document) = get(server, path).await;
    assert_eq!((code, document["openapi"].as_str()), (200, Some("3.0.0")));
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"];
    assert!(scale["get"].is_object() && scale["patch"].is_object(), "{scale}");
    let deployment = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert!(deployment["properties"]["spec"].is_object());
    let (code, whole) = get(server, "/openapi/v2").await;
    assert_eq!((code, whole["swagger"].as_str()), (200, Some("2.0")));
    assert!(whole["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"].is_object());
    assert!(whole["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"].is_object());
    assert_eq!(whole["parameters"]["pretty-tJGM1-ng"]["in"], "query");
    let asked = async |known: Option<&http::HeaderValue>| {
        let mut request = http::Request::builder().uri("/openapi/v2").body(crate::body(String::new())).unwrap();
        request.headers_mut().extend(known.map(|known| (http::header::IF_NONE_MATCH, known.clone())));
        server.call(crate::admin(), request).await
    };
    let etag = asked(None).await.headers()[http::header::ETAG].clone();
    assert_eq!(asked(Some(&etag)).await.status(), 304);
    let (_, of_group) = get(server, "/openapi/v3/apis/apps").await;
    assert_eq!(of_group["paths"]["/apis/apps/"]["get"]["operationId"], "getAppsAPIGroup");
    let unknown = get(server, "/openapi/v3/apis/none/v1").await;
    assert_eq!((unknown.0, unknown.1.as_str()), (404, Some("")));
    let paths = get(server, "/").await.1;
    let paths: Vec<&str> = paths["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    for known in ["/api/v1", "/apis/apps/v1", "/openapi/v3", "/readyz/informer-sync", "/version"] {
        assert!(paths.contains(&known), "{known}");
    }
    let unknown = get(server, "/api/v1/things").await;
    assert_eq!((unknown.0, words(&unknown)), (404, "the server could not find the requested resource"));
    assert_eq!(text(server, "/apis/none/v1/things").await, (404, "404 page not found\n".to_owned()));
    let refused = delete(server, "/version").await;
    assert_ne!(refused.0, 500);
    let refused = send(server, "PUT", MAPS, &json!({})).await;
    assert_eq!((refused.0, words(&refused)), (405, "the server does not allow this method on the requested resource"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_ignored_warned_of_or_refused_as_asked() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let mut odd = map("a");
    odd["colour"] = json!("red");
    let strict = send(server, "POST", &format!("{MAPS}?fieldValidation=Strict"), &odd).await;
    assert!(
        strict.0 == 400 && words(&strict).contains("strict decoding error: unknown field \"colour\""),
        "{}",
        words(&strict)
    );
    let ask = async |query: &str, name: &str| {
        let mut odd = odd.clone();
        odd["metadata"]["name"] = json!(name);
        let request = http::Request::builder().method("POST").uri(format!("{MAPS}{query}"));
        let request = request.header("content-type", "application/json").body(crate::body(odd.to_string())).unwrap();
        let response = server.call(crate::admin(), request).await;
        let warning = response.headers().get("warning").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), warning)
    };
    assert_eq!(ask("?fieldValidation=Ignore", "a").await, (201, None));
    let warned = (201, Some("299 - \"unknown field \\\"colour\\\"\"".to_owned()));
    assert_eq!((ask("?fieldValidation=Warn", "b").await, ask("", "c").await), (warned.clone(), warned));
    assert_eq!(get(server, &format!("{MAPS}/a")).await.1.get("colour"), None);
    let other = send(server, "POST", &format!("{MAPS}?fieldValidation=Some"), &odd).await;
    assert!(
        other.0 == 422 && words(&other).contains("fieldValidation: Unsupported value: \"Some\""),
        "{}",
        words(&other)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_an_applied_document_repeats_is_refused_or_warned_of_by_its_line() {
    let cluster = Cluster::start().await;
    let text = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: x\n  a: y\n";
    let apply = async |validation: &str| {
        let uri = format!("{MAPS}/a?fieldManager=test&fieldValidation={validation}");
        let request =
            http::Request::builder().method("PATCH").uri(uri).header("content-type", "application/apply-patch+yaml");
        let response = cluster.server.call(crate::admin(), request.body(crate::body(text)).unwrap()).await;
        let warning = response.headers().get("warning").map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, warning, serde_json::from_slice::<Value>(&bytes).unwrap())
    };
    let (status, _, refused) = apply("Strict").await;
    let words = "error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  \
                 line 5: key \"a\" already set in map";
    assert_eq!((status, refused["message"].as_str().unwrap()), (400, words));
    let (status, warning, made) = apply("Warn").await;
    assert_eq!((status, warning.unwrap().as_str()), (201, "299 - \"line 5: key \\\"a\\\" already set in map\""));
    assert_eq!(made["data"], json!({"a": "y"}));
    assert_eq!(apply("Ignore").await.1, None);
}

fn versions() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "red"}}},
        "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}}}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema, "subresources": {"status": {}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "boxes.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "boxes", "singular": "box", "kind": "Box"},
            "versions": [version("v1", true), version("v1beta1", false)]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_resource_is_pruned_defaulted_and_served_in_every_version() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(send(server, "POST", definitions, &versions()).await.0, 201);
    let boxes = |version: &str| format!("/apis/example.com/{version}/namespaces/default/boxes");
    let served = async {
        while get(server, &boxes("v1")).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), served).await.unwrap();
    let one = json!({"apiVersion": "example.com/v1beta1", "kind": "Box", "metadata": {"name": "one"},
        "spec": {"size": 3, "unknown": 1}, "status": {"ready": true}, "more": {}});
    let (code, made) = send(server, "POST", &boxes("v1beta1"), &one).await;
    assert_eq!((code, &made["spec"]), (201, &json!({"size": 3, "color": "red"})), "{made}");
    assert_eq!((made.get("status"), made.get("more"), made["metadata"]["generation"].as_i64()), (None, None, Some(1)));
    let path = format!("{}/one", boxes("v1"));
    let (_, other) = get(server, &path).await;
    assert_eq!((other["apiVersion"].as_str(), &other["spec"]), (Some("example.com/v1"), &made["spec"]));
    let both = json!({"spec": {"size": 9}, "status": {"ready": true, "unknown": 1}});
    let (code, written) = merge(server, &format!("{path}/status"), &both).await;
    assert_eq!((code, &written["spec"]["size"], &written["status"]), (200, &json!(3), &json!({"ready": true})));
    let (_, written) = merge(server, &path, &json!({"spec": {"size": 9}, "status": {"ready": false}})).await;
    assert_eq!((&written["spec"]["size"], &written["status"]["ready"]), (&json!(9), &json!(true)));
    assert_eq!(written["metadata"]["generation"], 2);
    let refused = merge(server, &path, &json!({"spec": {"size": 0}})).await;
    assert!(
        refused.0 == 422 && words(&refused).contains("spec.size in body should be greater than or equal to 1"),
        "{}",
        words(&refused)
    );
    let (_, listed) = get(server, &boxes("v1beta1")).await;
    let item = &listed["items"][0];
    assert_eq!((item["apiVersion"].as_str(), item["kind"].as_str()), (Some("example.com/v1beta1"), Some("Box")));
    let refused = call(server, "DELETE", &format!("{path}/status"), "", String::new()).await;
    assert_eq!(
        (refused.0, words(&refused)),
        (405, "delete is not supported on resources of kind \"boxes.example.com\"")
    );
    assert_eq!(get(server, &format!("{path}/scale")).await.0, 404);
    let mut fewer = get(server, &format!("{definitions}/boxes.example.com")).await.1;
    fewer["spec"]["versions"][1]["served"] = json!(false);
    assert_eq!(send(server, "PUT", &format!("{definitions}/boxes.example.com"), &fewer).await.0, 200);
    let gone = async {
        while get(server, &boxes("v1beta1")).await.0 != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
    assert_eq!(get(server, &path).await.0, 200);
}
