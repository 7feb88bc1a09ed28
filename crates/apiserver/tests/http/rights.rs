//! What a request may reach: roles and what they may hand out, paths, kubelets.

use serde_json::{Value, json};

use crate::support::Cluster;
use crate::{admin, call_as, get_as, send, send_as, user, words};

/// Roles count once the caches have them; a list waits for that.
async fn settled(server: &crate::Server) {
    assert_eq!(get_as(server, admin(), &format!("{RBAC}/clusterrolebindings")).await.0, 200);
}

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn role(kind: &str, name: &str, rules: &Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "rules": rules})
}

fn binding(kind: &str, name: &str, role: &str, user: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_out_more_than_he_has() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let group = "rbac.authorization.k8s.io";
    // Bob may write roles and bindings, and read pods.
    let may = json!([{"apiGroups": [group], "resources": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let may: Value =
        serde_json::from_str(&may.to_string().replace("\"*\"", "\"create\",\"update\",\"patch\",\"get\",\"delete\""))
            .unwrap();
    assert_eq!(send(server, "POST", &format!("{RBAC}/clusterroles"), &role("ClusterRole", "bobs", &may)).await.0, 201);
    let bobs = binding("ClusterRoleBinding", "bobs", "bobs", "bob");
    assert_eq!(send(server, "POST", &format!("{RBAC}/clusterrolebindings"), &bobs).await.0, 201);

    settled(server).await;
    let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let secrets = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]);
    let roles = format!("{RBAC}/namespaces/default/roles");
    assert_eq!(send_as(server, "bob", "POST", &roles, &role("Role", "fine", &pods)).await.0, 201);
    let refused = send_as(server, "bob", "POST", &roles, &role("Role", "more", &secrets)).await;
    let expected = "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}";
    assert_eq!((refused.0, words(&refused)), (403, expected));
    // Nor by way of an update, a patch, an apply or a dry run.
    let one = format!("{roles}/fine");
    assert_eq!(send_as(server, "bob", "PUT", &one, &role("Role", "fine", &secrets)).await.0, 403);
    let patch = json!({"rules": secrets}).to_string();
    let patched = call_as(server, user("bob"), "PATCH", &one, "application/merge-patch+json", patch).await;
    assert_eq!(patched.0, 403);
    let applied = role("Role", "applied", &secrets).to_string();
    let path = format!("{roles}/applied?fieldManager=x");
    assert_eq!(call_as(server, user("bob"), "PATCH", &path, "application/apply-patch+yaml", applied).await.0, 403);
    assert_eq!(
        send_as(server, "bob", "POST", &format!("{roles}?dryRun=All"), &role("Role", "dry", &secrets)).await.0,
        403
    );
    // A change that leaves the rules to the garbage collector's fields passes, whatever the rules say.
    assert_eq!(send(server, "POST", &roles, &role("Role", "admins", &secrets)).await.0, 201);
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}}).to_string();
    let admins = format!("{roles}/admins");
    assert_eq!(call_as(server, user("bob"), "PATCH", &admins, "application/merge-patch+json", held).await.0, 200);
    let labelled = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
    assert_eq!(call_as(server, user("bob"), "PATCH", &admins, "application/merge-patch+json", labelled).await.0, 403);

    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let to_admin = binding("RoleBinding", "up", "cluster-admin", "bob");
    let refused = send_as(server, "bob", "POST", &bindings, &to_admin).await;
    assert_eq!(refused.0, 403);
    assert!(
        words(&refused).contains(
            "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}"
        ),
        "{}",
        words(&refused)
    );
    let none = send_as(server, "bob", "POST", &bindings, &binding("RoleBinding", "n", "none", "bob")).await;
    assert_eq!((none.0, words(&none)), (404, "clusterroles.rbac.authorization.k8s.io \"none\" not found"));
    let aggregated = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let refused = send_as(server, "bob", "POST", &format!("{RBAC}/clusterroles"), &aggregated).await;
    assert_eq!(
        (refused.0, words(&refused)),
        (
            403,
            "clusterroles.rbac.authorization.k8s.io \"all\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
        )
    );

    // `bind` and `escalate` are the two ways past it.
    let bind = json!([{"apiGroups": [group], "resources": ["clusterroles"], "resourceNames": ["cluster-admin"], "verbs": ["bind"]},
        {"apiGroups": [group], "resources": ["roles"], "verbs": ["escalate"]}]);
    assert_eq!(
        send(server, "POST", &format!("{RBAC}/clusterroles"), &role("ClusterRole", "trusted", &bind)).await.0,
        201
    );
    let trusted = binding("ClusterRoleBinding", "trusted", "trusted", "bob");
    assert_eq!(send(server, "POST", &format!("{RBAC}/clusterrolebindings"), &trusted).await.0, 201);
    settled(server).await;
    assert_eq!(send_as(server, "bob", "POST", &bindings, &to_admin).await.0, 201);
    assert_eq!(send_as(server, "bob", "POST", &roles, &role("Role", "more", &secrets)).await.0, 201);
    // The controller that gathers roles has its own leave.
    let gathered = json!({"rules": secrets}).to_string();
    let controller = user("system:serviceaccount:kube-system:clusterrole-aggregation-controller");
    assert_eq!(send(server, "POST", &format!("{RBAC}/clusterroles"), &aggregated).await.0, 201);
    let path = format!("{RBAC}/clusterroles/all");
    assert_eq!(call_as(server, controller, "PATCH", &path, "application/merge-patch+json", gathered).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_path_is_a_watch_or_nothing() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let watch = json!([{"apiGroups": [""], "resources": ["pods", "pods/exec", "configmaps"], "verbs": ["watch"]}]);
    assert_eq!(
        send(server, "POST", &format!("{RBAC}/clusterroles"), &role("ClusterRole", "watcher", &watch)).await.0,
        201
    );
    let bound = binding("ClusterRoleBinding", "watcher", "watcher", "eve");
    assert_eq!(send(server, "POST", &format!("{RBAC}/clusterrolebindings"), &bound).await.0, 201);
    settled(server).await;
    let path = "/api/v1/watch/namespaces/default/pods/p";
    assert_eq!(send_as(server, "eve", "POST", &format!("{path}/exec?command=id"), &json!({})).await.0, 404);
    assert_eq!(get_as(server, user("eve"), &format!("{path}/exec?command=id")).await.0, 404);
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(send_as(server, "eve", method, path, &json!({})).await.0, 405, "{method}");
    }
    let whole = "/api/v1/watch/namespaces/default/configmaps";
    assert_eq!(send_as(server, "eve", "DELETE", whole, &json!({})).await.0, 405);
    let (code, _) = get_as(server, user("eve"), &format!("{whole}?timeoutSeconds=1")).await;
    assert_eq!(code, 200);
    assert_eq!(get_as(server, admin(), "/api/v1/watch/namespaces/default/bindings").await.0, 404);
}

fn kubelet(name: &str) -> apiserver::UserInfo {
    apiserver::UserInfo::new(format!("system:node:{name}"), &["system:nodes"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_sees_the_pods_of_its_node_and_gets_their_tokens_alone() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    send(server, "POST", "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut uids = Vec::new();
    for (name, node) in [("mine", "n1"), ("theirs", "n2")] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}});
        let (code, made) = send(server, "POST", pods, &pod).await;
        assert_eq!(code, 201, "{made}");
        uids.push(made["metadata"]["uid"].as_str().unwrap().to_owned());
    }
    settled(server).await;
    let read = async |path: &str| get_as(server, kubelet("n1"), path).await;
    let refused = read("/api/v1/pods").await;
    let expected = "pods is forbidden: User \"system:node:n1\" cannot list resource \"pods\" in API group \"\" at the cluster scope: can only list/watch pods with spec.nodeName field selector";
    assert_eq!((refused.0, words(&refused)), (403, expected));
    let (code, list) = read("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await;
    assert_eq!((code, crate::names(&list)), (200, vec!["mine"]));
    assert_eq!(read("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2").await.0, 403);
    assert_eq!(read("/api/v1/pods?fieldSelector=spec.nodeName!%3Dn1").await.0, 403);
    assert_eq!(read("/api/v1/watch/pods?fieldSelector=spec.nodeName%3Dn1").await.0, 403);
    assert_eq!((read(&format!("{pods}/mine")).await.0, read(&format!("{pods}/theirs")).await.0), (200, 403));
    assert_eq!(read("/api/v1/nodes").await.0, 403);

    let ask = async |spec: Value| {
        let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}).to_string();
        call_as(server, kubelet("n1"), "POST", path, "application/json", body).await
    };
    let bound = |name: &str, uid: &str| json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}});
    let (code, given) = ask(bound("mine", &uids[0])).await;
    assert_eq!((code, given["spec"]["expirationSeconds"].as_i64()), (201, Some(3600)), "{given}");
    for (spec, told) in [
        (json!({}), "node requested token not bound to a pod"),
        (bound("mine", ""), "node requested token with a pod binding without a uid"),
        (bound("theirs", &uids[1]), "node requested token bound to a pod scheduled on a different node"),
    ] {
        let refused = ask(spec).await;
        assert_eq!((refused.0, words(&refused)), (403, &*format!("serviceaccounts \"default\" is forbidden: {told}")));
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": {"verb": "list", "resource": "pods", "version": "v1",
            "fieldSelector": {"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]}}}});
    let (_, answer) = send(server, "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", &review).await;
    assert_eq!(answer["status"]["allowed"], true, "{answer}");
}
