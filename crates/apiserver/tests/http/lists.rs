//! Lists: pages, continue tokens, revisions, selectors.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use serde_json::{Value, json};
use store::Store;

use crate::support::Cluster;
use crate::{MAPS, delete, get, map, names, send, told, watch, words};

fn token(rv: i64, start: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!({"v": "meta.k8s.io/v1", "rv": rv, "start": start}).to_string())
}

fn maps_of(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continue_token_leads_nowhere_but_into_what_is_listed() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    for namespace in ["aa", "bb", "cc"] {
        let made = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        assert_eq!(send(server, "POST", "/api/v1/namespaces", &made).await.0, 201);
        for name in ["one", "two", "zoo"] {
            assert_eq!(send(server, "POST", &maps_of(namespace), &map(name)).await.0, 201);
        }
    }
    let (_, page) = get(server, &format!("{}?limit=1", maps_of("bb"))).await;
    let revision: i64 = page["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let given: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(page["metadata"]["continue"].as_str().unwrap()).unwrap())
            .unwrap();
    assert_eq!(given, json!({"v": "meta.k8s.io/v1", "rv": revision, "start": "one\0"}));
    for start in ["aa/one", "aa", "\0", "/aa/one", "a", "bb/one", "cc/one"] {
        for rv in [revision, -1] {
            let (code, list) = get(server, &format!("{}?continue={}", maps_of("bb"), token(rv, start))).await;
            assert_eq!(code, 200, "{start:?} {list}");
            let foreign = list["items"].as_array().unwrap().iter().find(|item| item["metadata"]["namespace"] != "bb");
            assert_eq!(foreign, None, "{start:?} at {rv}");
        }
    }
    for start in ["../aa/one", "aa/../../cc", "./one", "one//two", "one/", "..", "."] {
        let refused = get(server, &format!("{}?continue={}", maps_of("bb"), token(revision, start))).await;
        assert_eq!(
            (refused.0, words(&refused)),
            (400, &*format!("invalid continue token: continue key is not valid: {start}"))
        );
    }
    let refused = get(server, &format!("{}?continue={}", maps_of("bb"), token(0, "one"))).await;
    let expected = "invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
    assert_eq!((refused.0, words(&refused)), (400, expected));
    let refused = get(server, &format!("{}?continue={}", maps_of("bb"), token(1, ""))).await;
    let expected =
        "invalid continue token: continue key is not valid: encoded start key empty (version meta.k8s.io/v1)";
    assert_eq!((refused.0, words(&refused)), (400, expected));
    let refused = get(server, &format!("{}?continue={}&resourceVersion=1", maps_of("bb"), token(1, "a"))).await;
    assert_eq!((refused.0, words(&refused)), (400, "specifying resource version is not allowed when using continue"));
    let (_, rest) = get(server, &format!("{}?continue={}", maps_of("bb"), token(revision, "one\0"))).await;
    assert_eq!(names(&rest), ["two", "zoo"]);
    let mut all = Vec::new();
    let mut page = get(server, "/api/v1/configmaps?limit=2").await.1;
    loop {
        all.extend(page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["namespace"].clone()));
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = get(server, &format!("/api/v1/configmaps?limit=2&continue={token}")).await.1;
    }
    // The server has one of its own.
    assert_eq!(all, ["aa", "aa", "aa", "bb", "bb", "bb", "cc", "cc", "cc", "kube-system"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continue_token_of_a_compacted_revision_is_answered_with_one_that_goes_on() {
    let store = Arc::new(store::Embedded::in_memory(store::Options::default()));
    let cluster = Cluster::start_on(store.clone(), 0).await;
    let server = &cluster.server;
    for name in ["a", "b", "c"] {
        send(server, "POST", MAPS, &map(name)).await;
    }
    let (_, page) = get(server, &format!("{MAPS}?limit=1")).await;
    let token = page["metadata"]["continue"].as_str().unwrap();
    let old = page["metadata"]["resourceVersion"].as_str().unwrap();
    delete(server, &format!("{MAPS}/b")).await;
    send(server, "POST", MAPS, &map("d")).await;
    store.compact(store.status().await.unwrap().revision).await.unwrap();
    let expired = get(server, &format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((expired.0, expired.1["reason"].as_str()), (410, Some("Expired")));
    assert!(
        words(&expired).starts_with("The provided continue parameter is too old to display a consistent list result.")
    );
    let token = expired.1["metadata"]["continue"].as_str().unwrap();
    let (code, page) = get(server, &format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((code, names(&page)), (200, vec!["c"]));
    let token = page["metadata"]["continue"].as_str().unwrap();
    assert_eq!(names(&get(server, &format!("{MAPS}?limit=1&continue={token}")).await.1), ["d"]);
    let exact = get(server, &format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!((exact.0, words(&exact)), (410, "The resourceVersion for the provided list is too old."));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_of_the_revision_it_asks_for() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let mut at = Vec::new();
    for name in ["a", "b", "c"] {
        let (_, made) = send(server, "POST", MAPS, &map(name)).await;
        at.push(made["metadata"]["resourceVersion"].as_str().unwrap().to_owned());
    }
    let list = |query: String| async move { get(server, &format!("{MAPS}?{query}")).await };
    let exact = list(format!("resourceVersion={}&resourceVersionMatch=Exact", at[1])).await.1;
    assert_eq!((names(&exact), exact["metadata"]["resourceVersion"].as_str()), (vec!["a", "b"], Some(at[1].as_str())));
    let newer = list(format!("resourceVersion={}&resourceVersionMatch=NotOlderThan", at[2])).await.1;
    assert_eq!(names(&newer), ["a", "b", "c"]);
    let newer: u64 = newer["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(newer >= at[2].parse().unwrap());
    // A first page of a named revision is that revision's.
    let paged = list(format!("limit=1&resourceVersion={}", at[1])).await.1;
    assert_eq!((names(&paged), paged["metadata"]["remainingItemCount"].as_i64()), (vec!["a"], Some(1)));
    let future = list("resourceVersion=1000000&resourceVersionMatch=NotOlderThan".to_owned()).await;
    assert_eq!((future.0, future.1["details"]["causes"][0]["reason"].as_str()), (504, Some("ResourceVersionTooLarge")));
    for (query, told) in [
        ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ),
        ("resourceVersion=1&resourceVersionMatch=Older", "Unsupported value: \"Older\""),
    ] {
        let refused = list(query.to_owned()).await;
        assert_eq!(refused.0, 422, "{query}");
        assert!(words(&refused).contains(told), "{}", words(&refused));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_it_was_told_to_after_a_last_bookmark() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let (_, list) = get(server, MAPS).await;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let begun = std::time::Instant::now();
    let query = format!("watch=1&resourceVersion={from}&timeoutSeconds=3&allowWatchBookmarks=true");
    let mut events = watch(server, &format!("{MAPS}?{query}")).await;
    send(server, "POST", MAPS, &map("a")).await;
    let added = events.next().await.unwrap();
    assert_eq!(told(&added), "ADDED a");
    // What happens elsewhere moves the bookmark too.
    let (_, other) = send(server, "POST", "/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await;
    let bookmark = events.next().await.unwrap();
    assert_eq!((told(&bookmark), bookmark["object"]["kind"].as_str()), ("BOOKMARK -".to_owned(), Some("ConfigMap")));
    let number = |text: &Value| text.as_str().unwrap().parse::<u64>().unwrap();
    assert!(
        number(&bookmark["object"]["metadata"]["resourceVersion"]) >= number(&other["metadata"]["resourceVersion"])
    );
    assert_eq!(events.next().await, None);
    let took = begun.elapsed().as_secs_f64();
    assert!((2.9..20.0).contains(&took), "{took}");
    let quiet = watch(server, &format!("{MAPS}?watch=1&resourceVersion={from}&timeoutSeconds=1")).await;
    assert_eq!(quiet.map(|event| told(&event)).collect::<Vec<_>>().await, ["ADDED a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_from_a_compacted_revision_is_told_to_list_again() {
    let store = Arc::new(store::Embedded::in_memory(store::Options::default()));
    let first = Cluster::start_on(store.clone(), 0).await;
    let (_, made) = send(&first.server, "POST", MAPS, &map("a")).await;
    let old = made["metadata"]["resourceVersion"].as_str().unwrap();
    send(&first.server, "POST", MAPS, &map("b")).await;
    store.compact(store.status().await.unwrap().revision).await.unwrap();
    let second = Cluster::start_on(store, 0).await;
    let event = watch(&second.server, &format!("{MAPS}?watch=1&resourceVersion={old}")).await.next().await.unwrap();
    assert_eq!((event["type"].as_str(), event["object"]["reason"].as_str()), (Some("ERROR"), Some("Expired")));
    assert_eq!(event["object"]["code"], 410);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selected_field_that_is_absent_reads_as_the_zero_of_its_type() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "open"}});
    assert_eq!(send(server, "POST", "/api/v1/nodes", &node).await.0, 201);
    let closed =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "closed"}, "spec": {"unschedulable": true}});
    assert_eq!(send(server, "POST", "/api/v1/nodes", &closed).await.0, 201);
    for (value, found) in [("false", "open"), ("true", "closed")] {
        let (_, list) = get(server, &format!("/api/v1/nodes?fieldSelector=spec.unschedulable%3D{value}")).await;
        assert_eq!(names(&list), [found]);
    }
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "new"}, "spec": {"template": {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    assert_eq!(send(server, "POST", "/apis/batch/v1/namespaces/default/jobs", &job).await.0, 201);
    let (_, list) = get(server, "/apis/batch/v1/jobs?fieldSelector=status.successful%3D0").await;
    assert_eq!(names(&list), ["new"]);
    let event = |name: &str, source: &Value, reporting: &str| {
        json!({"apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": "default"}, "source": source, "reportingComponent": reporting,
        "involvedObject": {"namespace": "default", "name": "x"}})
    };
    for made in [
        event("old", &json!({"component": "one"}), ""),
        event("newer", &json!({}), "one"),
        event("other", &json!({}), "two"),
    ] {
        assert_eq!(send(server, "POST", "/api/v1/namespaces/default/events", &made).await.0, 201);
    }
    let (_, list) = get(server, "/api/v1/namespaces/default/events?fieldSelector=source%3Done").await;
    assert_eq!(names(&list), ["newer", "old"]);
    let (_, list) =
        get(server, "/apis/events.k8s.io/v1/namespaces/default/events?fieldSelector=reportingController%3Dtwo").await;
    assert_eq!(names(&list), ["other"]);
}
