//! Probes of servers that really listen.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, Probe};
use pods::ports::ContainerId;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Answer, Asked, ask};
use crate::tests::fakes::Run;

type Request = http::Request<Incoming>;

/// Serves HTTP/1 on a port of its own.
async fn serve(answer: fn(&Request) -> http::Response<Full<Bytes>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(move |request: Request| async move {
                Ok::<_, std::convert::Infallible>(answer(&request))
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    address
}

/// Serves `grpc.health.v1.Health/Check`: `SERVING` for the service `ok`, `NOT_SERVING` for `sick`, else code 5.
async fn serve_grpc() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: Request| async move {
                use http_body_util::BodyExt;
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let sent = request.into_body().collect().await?.to_bytes();
                let (status, code) = match sent.get(7..).unwrap_or_default() {
                    b"ok" => (Some(1), "0"),
                    b"sick" => (Some(2), "0"),
                    _ => (None, "5"),
                };
                let message = status.map(|status| Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status])));
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static(code));
                let frames = message.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, hyper::Error>);
                let body = StreamBody::new(futures::stream::iter(frames.collect::<Vec<_>>()));
                let answer = http::Response::builder().header("content-type", "application/grpc").body(body);
                Ok::<_, hyper::Error>(answer.unwrap())
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

async fn probe(at: SocketAddr, probe: Value) -> Answer {
    let probe: Probe = serde_json::from_value(probe).unwrap();
    let container: Container =
        serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": at.port()}]})).unwrap();
    let runtime = Arc::new(Run::default());
    let id = ContainerId { pod_uid: "u1".into(), name: "c".into(), attempt: 0 };
    let asked = Asked { runtime: &*runtime, id: &id, container: &container, address: Some(at.ip()) };
    ask(&asked, &probe).await
}

fn told(answer: &Answer, at: SocketAddr) -> String {
    let outcome = match &answer.outcome {
        journal::Outcome::Healthy => "healthy",
        journal::Outcome::Unhealthy(_) => "unhealthy",
        journal::Outcome::NotAsked(_) => "not asked",
    };
    format!("{outcome}: {}", answer.output.replace(&at.to_string(), "POD"))
}

fn page(request: &Request) -> http::Response<Full<Bytes>> {
    let (status, location) = match request.uri().path() {
        "/ok" if request.headers().get("x-who").is_some_and(|who| who == "me") => (200, ""),
        "/sick" => (503, ""),
        "/moved" => (302, "/sick"),
        "/dir/relative" => (307, "../ok"),
        "/away" => (301, "http://elsewhere.test/"),
        "/loop" => (302, "/loop"),
        "/unmodified" => (304, "/sick"),
        _ => (404, ""),
    };
    let answer = http::Response::builder().status(status);
    let answer = if location.is_empty() { answer } else { answer.header("location", location) };
    answer.body(Full::new(Bytes::from_static(b"words"))).unwrap()
}

#[tokio::test]
async fn http() {
    let at = serve(page).await;
    let get = |path: &'static str| async move {
        let headers = json!([{"name": "X-Who", "value": "me"}]);
        let action = json!({"path": path, "port": "web", "httpHeaders": headers});
        told(&probe(at, json!({"httpGet": action})).await, at)
    };
    assert_eq!(get("/ok").await, "healthy: ");
    assert_eq!(get("/sick").await, "unhealthy: HTTP probe failed with statuscode: 503");
    assert_eq!(
        get("/moved").await,
        "unhealthy: HTTP probe failed with statuscode: 503",
        "the same host is asked again"
    );
    assert_eq!(get("/dir/relative").await, "healthy: ");
    assert_eq!(get("/away").await, "healthy: Probe terminated redirects, Response body: words");
    assert_eq!(get("/unmodified").await, "healthy: Probe terminated redirects, Response body: ");
    assert_eq!(get("/loop").await, "unhealthy: Get \"http://POD/loop\": stopped after 10 redirects");
}

#[tokio::test]
async fn a_closed_port_and_an_open_one() {
    let at = serve(page).await;
    let tcp = json!({"tcpSocket": {"port": at.port()}});
    assert_eq!(told(&probe(at, tcp).await, at), "healthy: ");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for handler in ["tcpSocket", "httpGet"] {
        let answer = told(&probe(closed, json!({handler: {"port": closed.port()}})).await, closed);
        assert!(
            answer.starts_with("unhealthy: ") && answer.ends_with("dial tcp POD: connect: connection refused"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let answer = probe(at, json!({"httpGet": {"port": at.port()}, "timeoutSeconds": 1})).await;
    assert!(matches!(&answer.outcome, journal::Outcome::Unhealthy(journal::Symptom::Deadline { limit_ms: 1000, .. })));
    assert!(told(&answer, at).ends_with("(Client.Timeout exceeded while awaiting headers)"), "{}", answer.output);
}

#[tokio::test]
async fn grpc() {
    let at = serve_grpc().await;
    let check = |service: &'static str| async move {
        told(&probe(at, json!({"grpc": {"port": at.port(), "service": service}})).await, at)
    };
    assert_eq!(check("ok").await, "healthy: service healthy");
    assert_eq!(check("sick").await, "unhealthy: service unhealthy (responded with \"NOT_SERVING\")");
    assert!(check("none").await.starts_with("unhealthy: error: "), "{}", check("none").await);
}

#[tokio::test]
async fn an_exec_that_cannot_be_launched_is_counted_apart() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let answer = probe(nowhere, json!({"exec": {"command": ["true"]}})).await;
    assert_eq!(told(&answer, nowhere), "not asked: the container runtime failed: no exec here");
    let metrics = crate::metrics::Metrics::default();
    let about = journal::Subject::pod("shop", "web", "u1");
    metrics.probed(journal::Probe::Liveness, &answer.outcome, "c", &about);
    let labels = r#"container="c",namespace="shop",pod="web",pod_uid="u1",probe_type="Liveness",result="unknown""#;
    let lines = metrics.probe_lines();
    assert!(lines.lines().any(|line| line == format!("prober_probe_total{{{labels}}} 1")), "{lines}");
}
