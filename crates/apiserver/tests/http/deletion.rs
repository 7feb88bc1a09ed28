//! Deletion: options, propagation, collections, dry runs.

use serde_json::{Value, json};

use crate::support::Cluster;
use crate::{MAPS, call, delete, get, map, names, send, words};

#[tokio::test(flavor = "multi_thread")]
async fn options_of_the_wrong_type_delete_nothing() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    send(server, "POST", MAPS, &map("a")).await;
    let path = format!("{MAPS}/a");
    let invalid = |told: &str| format!("DeleteOptions.meta.k8s.io \"\" is invalid: {told}");
    for (body, code, told) in [
        (
            r#"{"preconditions":{"uid":7}}"#,
            400,
            "json: cannot unmarshal number into Go struct field Preconditions.preconditions.uid of type types.UID"
                .to_owned(),
        ),
        (
            r#"{"dryRun":"All"}"#,
            400,
            "json: cannot unmarshal string into Go struct field DeleteOptions.dryRun of type []string".to_owned(),
        ),
        (
            r#"{"gracePeriodSeconds":"x"}"#,
            400,
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
                .to_owned(),
        ),
        (
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            400,
            "no kind \"Pod\" is registered for version \"v1\" in scheme \"pkg/runtime/scheme.go:111\"".to_owned(),
        ),
        ("{", 400, "couldn't get version/kind; json parse error: unexpected end of JSON input".to_owned()),
        (r#"{"dryRun":["Foo"]}"#, 422, invalid("dryRun: Unsupported value: [\"Foo\"]: supported values: \"All\"")),
        (
            r#"{"propagationPolicy":"Bar"}"#,
            422,
            invalid(
                "propagationPolicy: Unsupported value: \"Bar\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
            ),
        ),
        (
            r#"{"orphanDependents":true,"propagationPolicy":"Orphan"}"#,
            422,
            invalid(
                "propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set",
            ),
        ),
    ] {
        let refused = call(server, "DELETE", &path, "application/json", body.to_owned()).await;
        assert_eq!((refused.0, words(&refused)), (code, told.as_str()), "{body}");
        let whole = call(server, "DELETE", MAPS, "application/json", body.to_owned()).await;
        assert_eq!(whole.0, code, "{body}");
        assert_eq!(get(server, &path).await.0, 200, "{body}");
    }
    for (query, code) in [("dryRun=Foo", 422), ("gracePeriodSeconds=x", 400), ("propagationPolicy=x", 422)] {
        assert_eq!((delete(server, &format!("{path}?{query}")).await.0, query), (code, query));
    }
    let wrong = json!({"preconditions": {"uid": "other"}});
    let refused = send(server, "DELETE", &path, &wrong).await;
    assert!(refused.0 == 409 && words(&refused).contains("the UID in the precondition (other)"), "{}", words(&refused));
    let dry = send(
        server,
        "DELETE",
        &path,
        &json!({"kind": "DeleteOptions", "apiVersion": "v1", "unknown": 1, "dryRun": ["All"]}),
    )
    .await;
    assert_eq!((dry.0, dry.1["status"].as_str(), get(server, &path).await.0), (200, Some("Success"), 200));
    let (_, present) = get(server, &path).await;
    let right = json!({"preconditions": {"uid": present["metadata"]["uid"], "resourceVersion": present["metadata"]["resourceVersion"]}});
    assert_eq!((send(server, "DELETE", &path, &right).await.0, get(server, &path).await.0), (200, 404));
}

#[tokio::test(flavor = "multi_thread")]
async fn propagation_is_written_into_what_is_deleted() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    for (name, body, finalizers) in [
        ("orphan", json!({"propagationPolicy": "Orphan"}), json!(["orphan"])),
        ("old-orphan", json!({"orphanDependents": true}), json!(["orphan"])),
        ("foreground", json!({"propagationPolicy": "Foreground"}), json!(["foregroundDeletion"])),
    ] {
        send(server, "POST", MAPS, &map(name)).await;
        let path = format!("{MAPS}/{name}");
        let (code, marked) = send(server, "DELETE", &path, &body).await;
        assert_eq!((code, &marked["metadata"]["finalizers"]), (200, &finalizers), "{name}");
        assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{name}");
        // Another word changes what is to become of the dependents, as long as the object is there.
        let (_, changed) = send(server, "DELETE", &path, &json!({"propagationPolicy": "Background"})).await;
        assert_eq!((changed["status"].as_str(), get(server, &path).await.0), (Some("Success"), 404), "{name}");
    }
    send(server, "POST", MAPS, &map("background")).await;
    let path = format!("{MAPS}/background");
    assert_eq!(send(server, "DELETE", &path, &json!({"propagationPolicy": "Background"})).await.0, 200);
    assert_eq!(get(server, &path).await.0, 404);
    let mut held = map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    send(server, "POST", MAPS, &held).await;
    assert_eq!(send(server, "DELETE", &format!("{MAPS}/held"), &json!({"orphanDependents": false})).await.0, 202);
    // Jobs keep their dependents unless they are told otherwise.
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}}}});
    assert_eq!(send(server, "POST", "/apis/batch/v1/namespaces/default/jobs", &job).await.0, 201);
    let (_, marked) = delete(server, "/apis/batch/v1/namespaces/default/jobs/j").await;
    assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]), "{marked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_emptied_of_what_its_list_would_show() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    send(server, "POST", "/api/v1/namespaces", &other).await;
    let others = "/api/v1/namespaces/other/configmaps";
    send(server, "POST", others, &map("kept")).await;
    for name in ["a", "b", "c", "d", "e"] {
        let mut labelled = map(name);
        labelled["metadata"]["labels"] = json!({"x": if name < "c" { "y" } else { "z" }});
        send(server, "POST", MAPS, &labelled).await;
    }
    let left = async || names(&get(server, MAPS).await.1).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let (code, dry) = delete(server, &format!("{MAPS}?dryRun=All")).await;
    assert_eq!((code, names(&dry).len(), left().await.len()), (200, 5, 5));
    let (code, gone) = delete(server, &format!("{MAPS}?labelSelector=x%3Dy")).await;
    assert_eq!((code, gone["kind"].as_str(), names(&gone)), (200, Some("ConfigMapList"), vec!["a", "b"]));
    assert_eq!(left().await, ["c", "d", "e"]);
    assert_eq!(names(&delete(server, &format!("{MAPS}?fieldSelector=metadata.name%3Dd")).await.1), ["d"]);
    // A page of the collection goes, the rest is told of.
    let (_, first) = delete(server, &format!("{MAPS}?limit=1")).await;
    assert_eq!((names(&first), first["metadata"]["remainingItemCount"].as_i64()), (vec!["c"], Some(1)));
    assert_eq!(left().await, ["e"]);
    delete(server, MAPS).await;
    assert_eq!((left().await.len(), names(&get(server, others).await.1)), (0, vec!["kept"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_would_be_and_changes_nothing() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let (_, made) = send(server, "POST", MAPS, &map("a")).await;
    let path = format!("{MAPS}/a");
    let mut changed = made.clone();
    changed["data"]["k"] = json!("w");
    let (code, shown) = send(server, "PUT", &format!("{path}?dryRun=All"), &changed).await;
    assert_eq!((code, &shown["data"]["k"]), (200, &json!("w")));
    let patch = json!({"data": {"k": "x"}}).to_string();
    for kind in ["application/merge-patch+json", "application/strategic-merge-patch+json"] {
        let (code, shown) = call(server, "PATCH", &format!("{path}?dryRun=All"), kind, patch.clone()).await;
        assert_eq!((code, &shown["data"]["k"]), (200, &json!("x")), "{kind}");
    }
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"new": "x"}}).to_string();
    let apply = "application/apply-patch+yaml";
    assert_eq!(
        call(server, "PATCH", &format!("{path}?dryRun=All&fieldManager=m"), apply, applied.clone()).await.0,
        200
    );
    assert_eq!(call(server, "PATCH", &format!("{MAPS}/n?dryRun=All&fieldManager=m"), apply, applied).await.0, 201);
    assert_eq!(get(server, &format!("{MAPS}/n")).await.0, 404);
    let (code, _) = delete(server, &format!("{path}?dryRun=All")).await;
    assert_eq!((code, get(server, &path).await), (200, (200, made)));
    let refused = send(server, "PUT", &format!("{path}?dryRun=Some"), &changed).await;
    assert!(
        refused.0 == 422 && words(&refused).contains("dryRun: Unsupported value: [\"Some\"]"),
        "{}",
        words(&refused)
    );
    let wrong: Value = json!({"metadata": {"name": "A_"}});
    assert_eq!(send(server, "POST", &format!("{MAPS}?dryRun=All"), &wrong).await.0, 422);
}
