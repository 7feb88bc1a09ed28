//! Requests and answers in protobuf, as client-go sends them by default.

use kinds::protobuf;

use super::*;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// An answer's code and content type, and its body read by what it says it is.
async fn exchange(
    server: &Server,
    method: &str,
    path: &str,
    accept: &str,
    sent: Option<&Value>,
) -> (u16, String, Value) {
    let bytes = sent.map(|value| protobuf::encode(value).unwrap()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header("accept", accept).header("content-type", PROTOBUF);
    let response = server.call(admin(), request.body(body(bytes)).unwrap()).await;
    let content = response.headers()["content-type"].to_str().unwrap().to_owned();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let value = match content.as_str() {
        PROTOBUF => protobuf::decode(&bytes).unwrap(),
        // YAML, of which JSON is a part.
        _ => serde_yaml_ng::from_slice(&bytes).unwrap(),
    };
    (code, content, value)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_the_same_in_protobuf_and_in_json() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let path = format!("{MAPS}/p");
    let (code, content, made) = exchange(server, "POST", MAPS, PROTOBUF, Some(&map("p"))).await;
    assert_eq!((code, content.as_str()), (201, PROTOBUF));
    assert_eq!(made, get(server, &path).await.1);
    let both = format!("{PROTOBUF},application/json");
    assert_eq!(exchange(server, "GET", &path, &both, None).await.2, made);
    let mut changed = made.clone();
    changed["data"]["k"] = json!("w");
    let (code, _, changed) = exchange(server, "PUT", &path, PROTOBUF, Some(&changed)).await;
    assert_eq!((code, &changed["data"]["k"]), (200, &json!("w")));
    let (_, _, list) = exchange(server, "GET", MAPS, PROTOBUF, None).await;
    assert_eq!(list, get(server, MAPS).await.1);
    let meta = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (_, content, partial) = exchange(server, "GET", MAPS, &meta, None).await;
    assert_eq!((content.as_str(), &partial["kind"]), (PROTOBUF, &json!("PartialObjectMetadataList")));
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "another"}});
    let (code, content, refused) = exchange(server, "DELETE", &path, PROTOBUF, Some(&options)).await;
    assert_eq!((code, content.as_str(), &refused["reason"]), (409, PROTOBUF, &json!("Conflict")));
    assert_eq!(exchange(server, "DELETE", &path, PROTOBUF, None).await.2["status"], "Success");
    let (code, _, absent) = exchange(server, "GET", &path, PROTOBUF, None).await;
    assert_eq!((code, &absent["details"]["name"]), (404, &json!("p")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_protobuf_message_is_refused() {
    let cluster = Cluster::start().await;
    let (code, answer) = call(&cluster.server, "POST", MAPS, PROTOBUF, "{}".to_owned()).await;
    assert_eq!(code, 400, "{answer}");
    let (code, answer) = call(&cluster.server, "POST", MAPS, "text/plain", "{}".to_owned()).await;
    assert_eq!(code, 415, "{answer}");
    let table = format!("{PROTOBUF};as=Table;g=meta.k8s.io;v=v1");
    let (code, _, answer) = exchange(&cluster.server, "GET", MAPS, &table, None).await;
    assert_eq!(code, 406, "{answer}");
    let yaml = exchange(&cluster.server, "GET", &format!("{MAPS}?watch=1"), "application/yaml", None).await;
    assert_eq!(
        (yaml.0, yaml.2["message"].as_str().unwrap()),
        (
            406,
            "only the following media types are accepted: application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_as_messages_with_their_lengths() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let made = send(server, "POST", MAPS, &map("w")).await.1;
    let request = Request::builder()
        .uri(format!("{MAPS}?watch=1&timeoutSeconds=1&resourceVersion=0&fieldSelector=metadata.name=w"));
    let request = request.header("accept", format!("{PROTOBUF},application/json")).body(body("")).unwrap();
    let response = server.call(admin(), request).await;
    assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let object = protobuf::encode(&made).unwrap();
    let mut expected = Vec::new();
    protobuf::write_event(&mut expected, "ADDED", &object);
    assert_eq!(bytes[..expected.len()], expected);
}
