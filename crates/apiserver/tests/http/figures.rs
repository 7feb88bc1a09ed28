//! What the server says of itself: flow schemas in answers, metrics, and quotas as they are charged.

use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::Cluster;
use crate::{MAPS, admin, body, get, map, send, watch};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_names_its_flow_schema_and_priority_level() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let group = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let (_, schemas) = get(server, &format!("{group}/flowschemas")).await;
    let items = schemas["items"].as_array().unwrap();
    assert_eq!(items.len(), 11);
    assert!(items.iter().all(|item| item["status"]["conditions"][0]["reason"] == "Found"), "{schemas}");
    let (_, levels) = get(server, &format!("{group}/prioritylevelconfigurations")).await;
    let name_of = |list: &Value, uid: &str| {
        let found = list["items"].as_array().unwrap().iter().find(|item| item["metadata"]["uid"] == uid);
        found.and_then(|item| item["metadata"]["name"].as_str()).unwrap_or_default().to_owned()
    };
    let ann = apiserver::UserInfo::new("ann", &["system:authenticated"]);
    for (user, path, schema, level) in [
        (admin(), "/api/v1/namespaces/default", "exempt", "exempt"),
        (ann.clone(), "/livez", "probes", "exempt"),
        (ann, "/api/v1/namespaces/default/pods", "global-default", "global-default"),
    ] {
        let response = server.call(user, Request::builder().uri(path).body(body("")).unwrap()).await;
        let uid = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(name_of(&schemas, &uid("X-Kubernetes-PF-FlowSchema-UID")), schema, "{path}");
        assert_eq!(name_of(&levels, &uid("X-Kubernetes-PF-PriorityLevel-UID")), level, "{path}");
    }
}

/// The samples of an exposition, each with its labels in braces.
fn samples(text: &str) -> std::collections::BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_upstreams_names_and_true_values() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    for name in ["a", "b"] {
        assert_eq!(send(server, "POST", MAPS, &map(name)).await.0, 201);
    }
    let mut events = watch(server, &format!("{MAPS}?watch=1")).await;
    for _ in 0..2 {
        events.next().await.unwrap();
    }
    let scrape = || async {
        let request = Request::builder().uri("/metrics").body(body("")).unwrap();
        let bytes = server.call(admin(), request).await.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    let text = scrape().await;
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    let found = samples(&text);
    let sum = |start: &str, with: &str| -> f64 {
        found.iter().filter(|(name, _)| name.starts_with(start) && name.contains(with)).map(|(_, value)| value).sum()
    };
    assert!(sum("apiserver_request_total{", "resource=\"configmaps\"") >= 2.0, "{text}");
    assert!(sum("apiserver_request_duration_seconds_count{", "resource=\"configmaps\"") >= 2.0);
    assert_eq!(
        sum("apiserver_storage_objects{", "{resource=\"configmaps\"}"),
        sum("apiserver_resource_objects{", "\"configmaps\"")
    );
    assert!(sum("apiserver_storage_objects{", "{resource=\"configmaps\"}") >= 2.0);
    assert!(sum("apiserver_storage_objects{", "\"flowschemas.flowcontrol.apiserver.k8s.io\"") == 11.0);
    assert!(sum("apiserver_watch_events_total{", "resource=\"configmaps\"") >= 2.0, "{text}");
    assert_eq!(sum("apiserver_longrunning_requests{", "resource=\"configmaps\""), 1.0);
    assert_eq!(sum("apiserver_current_inflight_requests{", "readOnly"), 1.0, "the scrape itself");
    assert_eq!(sum("kubernetes_build_info{", "git_version=\"v1.37"), 1.0);
    for name in ["process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
        assert!(sum(name, "") > 0.0, "{name}");
    }
    assert!(found.contains_key("process_cpu_seconds_total"));
    drop(events);
    let after = samples(&scrape().await);
    let open = after.iter().filter(|(name, _)| name.starts_with("apiserver_longrunning_requests{"));
    assert_eq!(open.map(|(_, value)| value).sum::<f64>(), 0.0, "the watch is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_charged_together_with_the_object_or_not_at_all() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let hard = json!({"count/configmaps": "3"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}});
    let (code, mut made) = send(server, "POST", quotas, &quota).await;
    assert_eq!(code, 201);
    made["status"] = json!({"hard": hard, "used": {"count/configmaps": "0"}});
    assert_eq!(send(server, "PUT", &format!("{quotas}/q/status"), &made).await.0, 200);
    let used = || async { get(server, &format!("{quotas}/q")).await.1["status"]["used"]["count/configmaps"].clone() };
    let (code, first) = send(server, "POST", MAPS, &map("a")).await;
    assert_eq!((code, used().await), (201, json!("1")));
    let charged = get(server, &format!("{quotas}/q")).await.1;
    assert_eq!(charged["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    assert_eq!(send(server, "POST", MAPS, &map("a")).await.0, 409);
    assert_eq!(send(server, "POST", &format!("{MAPS}?dryRun=All"), &map("b")).await.0, 201);
    assert_eq!(used().await, "1");
    let mut changed = map("a");
    changed["data"]["k"] = json!("w");
    assert_eq!(send(server, "PUT", &format!("{MAPS}/a"), &changed).await.0, 200);
    assert_eq!(used().await, "1");
    // All at once: as many as there is room for, and no more.
    let names: Vec<String> = (0..6).map(|n| format!("more-{n}")).collect();
    let many = names.iter().map(|name| async move { send(server, "POST", MAPS, &map(name)).await.0 });
    let mut codes = futures::future::join_all(many).await;
    codes.sort_unstable();
    assert_eq!(codes, [201, 201, 403, 403, 403, 403]);
    assert_eq!(used().await, "3");
    let (_, refused) = send(server, "POST", MAPS, &map("last")).await;
    assert_eq!(
        refused["message"],
        "configmaps \"last\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=3, limited: count/configmaps=3"
    );
}
