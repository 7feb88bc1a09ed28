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
    let text = "the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a \
                protobuf message, expected prefix [107 56 115 0] ({})";
    assert_eq!((code, answer["message"].as_str().unwrap()), (400, text));
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
async fn a_version_that_is_not_served_is_known_by_its_name() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let older = json!({"apiVersion": "apps/v1beta2", "kind": "Deployment", "metadata": {"name": "d"}});
    let text = "the API version in the data (apps/v1beta2) does not match the expected API version (apps/v1)";
    let (code, _, answer) = exchange(server, "POST", deployments, "application/json", Some(&older)).await;
    assert_eq!((code, words(&(code, answer))), (400, text));
    let answer = send(server, "POST", deployments, &older).await;
    assert_eq!((answer.0, words(&answer)), (400, text));
    let (code, _, answer) = exchange(server, "POST", MAPS, "application/json", Some(&older)).await;
    let text = "Deployment in version \"v1beta2\" cannot be handled as a ConfigMap: converting (v1beta2.Deployment) to \
                (core.ConfigMap): unknown conversion";
    assert_eq!((code, words(&(code, answer))), (400, text));
    // Its message is another than the served one's, so it is read as far as its name alone.
    let changed = "k8s\0\x0a\x1a\x0a\x0capps/v1beta1\x12\x0aDeployment".to_owned();
    let answer = call(server, "POST", deployments, PROTOBUF, changed).await;
    let text = "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)";
    assert_eq!((answer.0, words(&answer)), (400, text));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_may_be_of_its_first_version() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    assert_eq!(send(server, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await.0, 201);
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = exchange(server, "POST", pods, PROTOBUF, Some(&pod)).await;
    assert_eq!(made.0, 201, "{:?}", made.2);
    let eviction = |version: &str| json!({"apiVersion": version, "kind": "Eviction", "metadata": {"name": "p"}});
    for version in ["policy/v1beta1", "policy/v1"] {
        let path = format!("{pods}/p/eviction?dryRun=All");
        let done = exchange(server, "POST", &path, PROTOBUF, Some(&eviction(version))).await;
        assert_eq!((done.0, &done.2["status"]), (201, &json!("Success")), "{:?}", done.2);
        assert_eq!(send(server, "POST", &path, &eviction(version)).await.0, 201);
    }
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
