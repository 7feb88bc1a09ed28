//! Subresources: scale, status, resize, ephemeral containers, binding, eviction, tokens.

use serde_json::{Value, json};

use crate::support::Cluster;
use crate::{Server, call, delete, get, merge, send, words};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";

async fn account(server: &Server) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let path = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(send(server, "POST", path, &account).await.0, 201);
}

async fn pod(server: &Server, name: &str, labels: &Value) -> Value {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": {
        "containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "100m"}}}]}});
    let (code, made) = send(server, "POST", PODS, &pod).await;
    assert_eq!(code, 201, "{made}");
    made
}

async fn deployment(server: &Server) {
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}});
    let made = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec});
    let path = "/apis/apps/v1/namespaces/default/deployments?fieldManager=maker";
    assert_eq!(send(server, "POST", path, &made).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_is_applied_and_its_applier_owns_the_count() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    deployment(server).await;
    let apply = async |query: &str, replicas: i64| {
        let scale =
            json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": replicas}}).to_string();
        let path = format!("{DEPLOYMENT}/scale?{query}");
        call(server, "PATCH", &path, "application/apply-patch+yaml", scale).await
    };
    let conflict = apply("fieldManager=hpa", 3).await;
    let told = "Apply failed with 1 conflict: conflict with \"maker\" using autoscaling/v1: .spec.replicas";
    assert_eq!((conflict.0, words(&conflict)), (409, told));
    let (code, scale) = apply("fieldManager=hpa&force=true", 3).await;
    assert_eq!((code, scale["spec"]["replicas"].as_i64(), scale["kind"].as_str()), (200, Some(3), Some("Scale")));
    let (_, scaled) = get(server, DEPLOYMENT).await;
    assert_eq!((scaled["spec"]["replicas"].as_i64(), scaled["metadata"]["generation"].as_i64()), (Some(3), Some(2)));
    let owner = &scaled["metadata"]["managedFields"][0];
    assert_eq!((owner["manager"].as_str(), owner["subresource"].as_str()), (Some("hpa"), Some("scale")));
    assert_eq!(owner["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
    let wrong = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 4}}).to_string();
    let path = format!("{DEPLOYMENT}/scale?fieldManager=hpa");
    let refused = call(server, "PATCH", &path, "application/apply-patch+yaml", wrong).await;
    assert_eq!((refused.0, words(&refused)), (400, "invalid object type: apps/v1, Kind=Deployment"));
    let wrong = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": "4"}});
    let refused = send(server, "PUT", &format!("{DEPLOYMENT}/scale"), &wrong).await;
    let told = "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32";
    assert_eq!((refused.0, words(&refused)), (400, told));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_and_its_status_are_written_apart() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    deployment(server).await;
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 5}});
    let (code, written) = merge(server, &format!("{DEPLOYMENT}/status"), &both).await;
    assert_eq!((code, &written["spec"]["replicas"], &written["status"]["replicas"]), (200, &json!(2), &json!(5)));
    assert_eq!(written["metadata"]["generation"], 1);
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 6}});
    let (code, written) = merge(server, DEPLOYMENT, &both).await;
    assert_eq!((code, &written["spec"]["replicas"], &written["status"]["replicas"]), (200, &json!(7), &json!(5)));
    assert_eq!(written["metadata"]["generation"], 2);
    let mut put = written.clone();
    put["status"]["replicas"] = json!(1);
    put["spec"]["replicas"] = json!(1);
    let (code, put) = send(server, "PUT", &format!("{DEPLOYMENT}/status"), &put).await;
    assert_eq!((code, &put["spec"]["replicas"], &put["status"]["replicas"]), (200, &json!(7), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debug_container_is_only_added_and_is_checked() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    account(server).await;
    pod(server, "p", &json!({})).await;
    let path = format!("{PODS}/p/ephemeralcontainers");
    let add = async |patch: Value| {
        call(server, "PATCH", &path, "application/strategic-merge-patch+json", patch.to_string()).await
    };
    let debug = |image: &str| {
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"activeDeadlineSeconds": 5,
        "ephemeralContainers": [{"name": "d", "image": image}]}})
    };
    let (code, made) = add(debug("i")).await;
    assert_eq!((code, made["metadata"]["generation"].as_i64()), (200, Some(2)), "{made}");
    assert_eq!(made["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"], "File");
    // Nothing else is changed by it.
    assert_eq!((made["metadata"].get("labels"), made["spec"].get("activeDeadlineSeconds")), (None, None));
    let refused = add(debug("j")).await;
    let told = "Pod \"p\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be changed\n";
    assert!(refused.0 == 422 && words(&refused).starts_with(told), "{}", words(&refused));
    let refused = merge(server, &path, &json!({"spec": {"ephemeralContainers": null}})).await;
    let told = "Pod \"p\" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n";
    assert_eq!((refused.0, words(&refused)), (422, told));
    let refused = add(json!({"spec": {"ephemeralContainers": [{"name": "E_", "image": ""}]}})).await;
    let told = words(&refused);
    assert!(refused.0 == 422 && told.contains("spec.ephemeralContainers[0].name: Invalid value: \"E_\""), "{told}");
    assert!(told.ends_with("spec.ephemeralContainers[0].image: Required value]"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resize_changes_cpu_and_memory_alone() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    account(server).await;
    pod(server, "p", &json!({})).await;
    let path = format!("{PODS}/p/resize");
    let resize = async |patch: Value| {
        call(server, "PATCH", &path, "application/strategic-merge-patch+json", patch.to_string()).await
    };
    let sized = |requests: Value| json!({"spec": {"containers": [{"name": "c", "image": "other", "resources": {"requests": requests}}]}});
    let (code, made) = resize(sized(json!({"cpu": "200m"}))).await;
    assert_eq!((code, made["metadata"]["generation"].as_i64()), (200, Some(2)), "{made}");
    let container = &made["spec"]["containers"][0];
    assert_eq!((&container["resources"]["requests"]["cpu"], &container["image"]), (&json!("200m"), &json!("x")));
    for (patch, told) in [
        (
            sized(json!({"cpu": null})),
            "[spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing, spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed]",
        ),
        (sized(json!({"ephemeral-storage": "1Gi"})), "spec: Forbidden: only cpu and memory resources are mutable"),
        (
            sized(json!({"cpu": "-1"})),
            "[spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0, spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing]",
        ),
        (
            json!({"spec": {"containers": [{"name": "new", "image": "x"}]}}),
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
    ] {
        let refused = resize(patch).await;
        assert_eq!((refused.0, words(&refused)), (422, &*format!("Pod \"p\" is invalid: {told}")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_leaves_generation_and_owners_of_fields_alone() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    account(server).await;
    let made = pod(server, "p", &json!({})).await;
    let path = format!("{PODS}/p/binding");
    let bind = |name: &str, node: &str| json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
    let refused = send(server, "POST", &path, &bind("", "n")).await;
    assert_eq!((refused.0, words(&refused)), (400, "name in URL does not match name in Binding object"));
    let refused = send(server, "POST", &path, &bind("p", "N_")).await;
    assert!(refused.0 == 500 && words(&refused).contains("target.name: Invalid value: \"N_\""), "{}", words(&refused));
    assert_eq!(send(server, "POST", &path, &bind("p", "n")).await.0, 201);
    let (_, bound) = get(server, &format!("{PODS}/p")).await;
    assert_eq!((bound["spec"]["nodeName"].as_str(), bound["metadata"]["generation"].as_i64()), (Some("n"), Some(1)));
    assert_eq!(bound["metadata"]["managedFields"], made["metadata"]["managedFields"]);
    let condition = &bound["status"]["conditions"][0];
    assert_eq!((condition["type"].as_str(), condition["status"].as_str()), (Some("PodScheduled"), Some("True")));
    assert_eq!(condition.get("observedGeneration"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_asks_the_disruption_budget() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    account(server).await;
    for name in ["p", "q"] {
        pod(server, name, &json!({"app": "a"})).await;
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        assert_eq!(merge(server, &format!("{PODS}/{name}/status"), &running).await.0, 200);
    }
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    assert_eq!(send(server, "POST", budgets, &budget).await.0, 201);
    let evict = async |name: &str, query: &str| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        send(server, "POST", &format!("{PODS}/{name}/eviction{query}"), &eviction).await
    };
    let refused = evict("p", "").await;
    assert_eq!((refused.0, refused.1["reason"].as_str()), (429, Some("TooManyRequests")));
    assert_eq!(words(&refused), "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_eq!(refused.1["details"]["causes"][0]["reason"], "DisruptionBudget");
    let allow = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    assert_eq!(merge(server, &format!("{budgets}/b/status"), &allow).await.0, 200);
    let dry = evict("p", "?dryRun=All").await;
    assert_eq!((dry.0, get(server, &format!("{PODS}/p")).await.0), (201, 200));
    assert_eq!(get(server, &format!("{budgets}/b")).await.1["status"]["disruptionsAllowed"], 1);
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}});
    assert_eq!(merge(server, &format!("{PODS}/p"), &held).await.0, 200);
    let done = evict("p", "").await;
    assert_eq!((done.0, done.1["status"].as_str()), (201, Some("Success")), "{}", done.1);
    let (_, going) = get(server, &format!("{PODS}/p")).await;
    let condition = going["status"]["conditions"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&condition["type"], &condition["reason"]),
        (&json!("DisruptionTarget"), &json!("EvictionByEvictionAPI"))
    );
    assert!(going["metadata"]["deletionTimestamp"].is_string(), "{going}");
    let (_, spent) = get(server, &format!("{budgets}/b")).await;
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["p"].is_string(), "{spent}");
    assert_eq!(evict("q", "").await.0, 429);
    let nameless = send(server, "POST", &format!("{PODS}/q/eviction"), &json!({})).await;
    assert_eq!((nameless.0, words(&nameless)), (400, "name in URL does not match name in Eviction object"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_as_long_as_what_it_is_bound_to() {
    let cluster = Cluster::start().await;
    let server = &cluster.server;
    account(server).await;
    let made = pod(server, "p", &json!({})).await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let bound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": made["metadata"]["uid"]}}});
    let (code, given) = send(server, "POST", path, &bound).await;
    assert_eq!(code, 201, "{given}");
    let metadata = &given["metadata"];
    assert_eq!((metadata["name"].as_str(), metadata["namespace"].as_str()), (Some("default"), Some("default")));
    assert!(metadata["uid"].is_string() && metadata["creationTimestamp"].is_string(), "{metadata}");
    assert_eq!(metadata["managedFields"][0]["subresource"], "token");
    assert_eq!(given["spec"]["expirationSeconds"], 3600);
    let review = async |token: &Value| {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        send(server, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", &review).await.1["status"].clone()
    };
    let status = review(&given["status"]["token"]).await;
    assert_eq!(
        (&status["authenticated"], &status["user"]["username"]),
        (&json!(true), &json!("system:serviceaccount:default:default"))
    );
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    delete(server, &format!("{PODS}/p")).await;
    let status = review(&given["status"]["token"]).await;
    assert_eq!((status.get("authenticated"), status["error"].is_string()), (None, true), "{status}");
    for (spec, told) in [
        (
            json!({"spec": {"expirationSeconds": 1}}),
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"metadata": {"name": "x"}}),
            "TokenRequest.authentication.k8s.io \"default\" is invalid: metadata.name: Invalid value: \"x\": must match the service account name if specified",
        ),
        (
            json!({"spec": {"expirationSeconds": "1"}}),
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: json: cannot unmarshal string into Go struct field TokenRequestSpec.spec.expirationSeconds of type int64",
        ),
        (
            json!({"kind": "Pod", "apiVersion": "v1"}),
            "Pod in version \"v1\" cannot be handled as a TokenRequest: converting (v1.Pod) to (authentication.TokenRequest): unknown conversion",
        ),
        (
            json!({"spec": {"boundObjectRef": {"kind": "Foo", "apiVersion": "v1", "name": "x"}}}),
            "cannot bind token to object of type /v1, Kind=Foo",
        ),
        (bound, "pods \"p\" not found"),
    ] {
        assert_eq!(words(&send(server, "POST", path, &spec).await), told);
    }
}
