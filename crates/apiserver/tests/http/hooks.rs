//! Webhooks: a real one behind TLS, and what its answers do to requests.

use std::sync::Arc;

use base64::Engine as _;
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use super::support::{Cluster, Identity, served};
use super::{MAPS, Server, call, delete, get, map, send, words};

/// Serves a function of documents over HTTPS; answers its port.
pub async fn serve_json(identity: &Identity, answer: fn(&http::request::Parts, &Value) -> Value) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls.with_no_client_auth().with_cert_resolver(served(identity))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| async move {
                    let (parts, body) = request.into_parts();
                    let bytes = body.collect().await.unwrap().to_bytes();
                    let given: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                    let text = answer(&parts, &given).to_string();
                    Ok::<_, std::convert::Infallible>(http::Response::new(apiserver::http::full(text)))
                });
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _closed = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    port
}

/// Labels what is made, and refuses what is called `no`.
fn review(asked: &http::request::Parts, review: &Value) -> Value {
    let request = &review["request"];
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    match asked.uri.path() {
        "/label" if request["operation"] == "DELETE" => {}
        "/label" => {
            assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
            let patch = json!([{"op": "add", "path": "/data/by", "value": request["userInfo"]["username"]}]);
            response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch.to_string()));
            response["patchType"] = json!("JSONPatch");
            response["warnings"] = json!(["labelled"]);
        }
        _ => {
            let object = if request["object"].is_null() { &request["oldObject"] } else { &request["object"] };
            let refused = object["metadata"]["name"] == "no" || object["data"]["k"] == "kept";
            response["allowed"] = json!(!refused);
            response["status"] =
                json!({"message": format!("{} of this is not wanted", request["operation"]), "code": 403});
        }
    }
    json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response })
}

fn configuration(kind: &str, name: &str, ca: &str, url: String, more: Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": base64::engine::general_purpose::STANDARD.encode(ca)},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}],
    });
    webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [webhook],
    })
}

async fn register(server: &Server, configuration: &Value) {
    let plural = format!("{}s", configuration["kind"].as_str().unwrap().to_lowercase());
    let answer = send(server, "POST", &format!("/apis/admissionregistration.k8s.io/v1/{plural}"), configuration).await;
    assert_eq!(answer.0, 201, "{}", answer.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_change_and_refuse() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let port = serve_json(&cluster.serving_identity("webhook"), review).await;
    let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
    let more = json!({"matchConditions": [{"name": "named", "expression": "object == null || object.metadata.name != 'plain'"}]});
    register(server, &configuration("MutatingWebhookConfiguration", "label", &cluster.ca, url("/label"), more)).await;
    register(server, &configuration("ValidatingWebhookConfiguration", "deny", &cluster.ca, url("/deny"), json!({})))
        .await;

    let (code, made) = send(server, "POST", MAPS, &map("a")).await;
    assert_eq!((code, &made["data"]), (201, &json!({"by": "admin", "k": "v"})));
    let (_, plain) = send(server, "POST", MAPS, &map("plain")).await;
    assert_eq!(plain["data"], json!({"k": "v"}));

    let refused = send(server, "POST", MAPS, &map("no")).await;
    let wanted = "admission webhook \"deny.example.com\" denied the request: \"CREATE\" of this is not wanted";
    assert_eq!((refused.0, words(&refused)), (403, wanted));
    let patch = json!({"data": {"k": "kept"}}).to_string();
    let refused = call(server, "PATCH", &format!("{MAPS}/plain"), "application/merge-patch+json", patch).await;
    assert!(words(&refused).contains("\"UPDATE\" of this"), "{}", refused.1);
    assert_eq!(delete(server, &format!("{MAPS}/a")).await.0, 200);
    assert_eq!(get(server, &format!("{MAPS}/no")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_cannot_be_asked_fail_as_they_are_told_to() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let port = serve_json(&cluster.serving_identity("webhook"), review).await;
    let url = || format!("https://127.0.0.1:{port}/deny");
    let kind = "ValidatingWebhookConfiguration";
    let ignored = json!({"failurePolicy": "Ignore", "timeoutSeconds": 1});
    let nowhere = || "https://127.0.0.1:1/x".to_owned();
    register(server, &configuration(kind, "ignored", &cluster.ca, nowhere(), ignored)).await;
    assert_eq!(send(server, "POST", MAPS, &map("a")).await.0, 201);

    let foreign = Cluster::start().await;
    register(server, &configuration(kind, "foreign", &foreign.ca, url(), json!({}))).await;
    let failed = send(server, "POST", MAPS, &map("b")).await;
    let wanted = format!(
        "Internal error occurred: failed calling webhook \"foreign.example.com\": failed to call webhook: Post \
         \"https://127.0.0.1:{port}/deny?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by \
         unknown authority"
    );
    assert_eq!((failed.0, words(&failed)), (500, wanted.as_str()));
    assert_eq!(
        delete(server, "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/foreign").await.0,
        200
    );
    assert_eq!(send(server, "POST", MAPS, &map("b")).await.0, 201);
}
