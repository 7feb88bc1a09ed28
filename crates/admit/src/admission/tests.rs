//! Plugins against a small cluster, each rule by what it changes or says.

use jiff::Timestamp;
use serde_json::json;

use super::*;

#[derive(Default)]
struct Cluster {
    namespace: Value,
    account: Value,
    limits: Vec<Value>,
    quotas: Vec<Value>,
    priorities: Vec<Value>,
    storage: Vec<Value>,
    node: Value,
    pod: Value,
}

fn typed<T: serde::de::DeserializeOwned>(value: &Value) -> Option<Arc<T>> {
    (!value.is_null()).then(|| Arc::new(serde_json::from_value(value.clone()).unwrap()))
}

fn list<T: serde::de::DeserializeOwned>(values: &[Value]) -> Vec<Arc<T>> {
    values.iter().filter_map(typed).collect()
}

impl View for Cluster {
    fn namespace(&self, _: &str) -> Option<Arc<Namespace>> {
        typed(&self.namespace)
    }
    fn service_account(&self, _: &str, _: &str) -> Option<Arc<ServiceAccount>> {
        typed(&self.account)
    }
    fn limit_ranges(&self, _: &str) -> Vec<Arc<LimitRange>> {
        list(&self.limits)
    }
    fn quotas(&self, _: &str) -> Vec<Arc<ResourceQuota>> {
        list(&self.quotas)
    }
    fn priority_classes(&self) -> Vec<Arc<PriorityClass>> {
        list(&self.priorities)
    }
    fn runtime_class(&self, _: &str) -> Option<Arc<RuntimeClass>> {
        None
    }
    fn storage_classes(&self) -> Vec<Arc<StorageClass>> {
        list(&self.storage)
    }
    fn ingress_classes(&self) -> Vec<Arc<IngressClass>> {
        Vec::new()
    }
    fn pod(&self, _: &str, _: &str) -> Option<Arc<Pod>> {
        typed(&self.pod)
    }
    fn node(&self, _: &str) -> Option<Arc<Node>> {
        typed(&self.node)
    }
    fn claim(&self, _: &str, _: &str) -> Option<Arc<PersistentVolumeClaim>> {
        None
    }
    fn csi_driver_of_claim(&self, _: &str, claim: &str) -> Option<String> {
        (claim == "claim").then(|| "driver".to_owned())
    }
    fn csi_audiences(&self, driver: &str) -> Vec<String> {
        if driver == "driver" { vec!["of-driver".to_owned()] } else { Vec::new() }
    }
    fn allowed(&self, _: &str, _: &str, _: &str, _: &str, _: &str, _: &str) -> bool {
        false
    }
}

fn cluster() -> Cluster {
    Cluster {
        namespace: json!({"metadata": {"name": "ns"}}),
        account: json!({"metadata": {"name": "default"}, "imagePullSecrets": [{"name": "pull"}]}),
        ..Cluster::default()
    }
}

fn create<'a>(user: &'a UserInfo, resource: &'a str) -> Request<'a> {
    Request {
        operation: Operation::Create,
        group: "",
        version: "v1",
        kind: "Pod",
        resource,
        subresource: "",
        namespace: "ns",
        name: "p",
        user,
    }
}

fn pod() -> Value {
    json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn admit_pod(cluster: &Cluster, mut pod: Value) -> Result<Value, String> {
    let user = UserInfo::new("ann", &[]);
    let request = create(&user, "pods");
    mutate(&request, cluster, &mut pod, None).map_err(|status| status.message)?;
    validate(&request, cluster, Some(&pod), None).map_err(|status| status.message)?;
    Ok(pod)
}

#[test]
fn a_plain_pod_gets_account_token_priority_and_tolerations() {
    let pod = admit_pod(&cluster(), pod()).unwrap();
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(pod["spec"]["imagePullSecrets"][0]["name"], "pull");
    assert_eq!(pod["spec"]["priority"], 0);
    assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let volume = pod["spec"]["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-") && volume.len() == 21, "{volume}");
    assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], volume);
}

#[test]
fn a_terminating_namespace_takes_nothing_new() {
    let mut cluster = cluster();
    cluster.namespace["status"] = json!({"phase": "Terminating"});
    let words = admit_pod(&cluster, pod()).unwrap_err();
    assert_eq!(
        words,
        "pods \"p\" is forbidden: unable to create new content in namespace ns because it is being terminated"
    );
}

#[test]
fn limit_ranges_fill_in_and_refuse() {
    let mut cluster = cluster();
    cluster.limits = vec![json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}}]}})];
    let filled = admit_pod(&cluster, pod()).unwrap();
    assert_eq!(
        filled["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}})
    );
    assert_eq!(
        filled["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let mut large = pod();
    large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    assert_eq!(
        admit_pod(&cluster, large).unwrap_err(),
        "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[test]
fn quotas_count_and_refuse() {
    let mut cluster = cluster();
    let quota = |used: &str| {
        json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "requests.cpu": "1"}},
            "status": {"hard": {"pods": "2", "requests.cpu": "1"}, "used": {"pods": used, "requests.cpu": "500m"}}})
    };
    let user = UserInfo::new("ann", &[]);
    let request = create(&user, "pods");
    let mut wanted = pod();
    cluster.quotas = vec![quota("1")];
    let now = Timestamp::UNIX_EPOCH;
    let words = |result: Result<Vec<quota::Charge>, Status>| result.unwrap_err().message;
    assert_eq!(
        words(quota::admit(&request, &cluster, &wanted, None, now)),
        "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
    wanted["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "200m"}});
    let changed = quota::admit(&request, &cluster, &wanted, None, now).unwrap();
    let total: Vec<String> = changed[0].used.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    assert_eq!(total, ["pods=2", "requests.cpu=700m"]);
    cluster.quotas = vec![quota("2")];
    assert_eq!(
        words(quota::admit(&request, &cluster, &wanted, None, now)),
        "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
    );
    let update = Request { operation: Operation::Update, ..request };
    let older = pod();
    let mut labelled = older.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let changed = quota::admit(&update, &cluster, &labelled, Some(&older), now).unwrap();
    assert!(changed.is_empty(), "a pod older than the quota can be labelled");
    cluster.quotas[0]["status"]["used"] = json!({"pods": "1"});
    assert_eq!(
        words(quota::admit(&request, &cluster, &wanted, None, now)),
        "pods \"p\" is forbidden: status unknown for quota: q, resources: pods,requests.cpu"
    );
    cluster.quotas[0]["status"] = json!({});
    assert!(quota::admit(&request, &cluster, &wanted, None, now).unwrap().is_empty(), "not counted yet");
}

#[test]
fn a_change_of_scope_moves_a_pod_between_quotas() {
    let mut cluster = cluster();
    let quota = |name: &str, scope: &str| {
        json!({"metadata": {"name": name}, "spec": {"scopes": [scope]},
            "status": {"hard": {"pods": "5"}, "used": {"pods": "1"}}})
    };
    cluster.quotas = vec![quota("long", "NotTerminating"), quota("short", "Terminating")];
    let user = UserInfo::new("ann", &[]);
    let update = Request { operation: Operation::Update, ..create(&user, "pods") };
    let (old, mut new) = (pod(), pod());
    new["spec"]["activeDeadlineSeconds"] = json!(60);
    let charges = quota::admit(&update, &cluster, &new, Some(&old), Timestamp::UNIX_EPOCH).unwrap();
    let shown: Vec<String> = charges
        .iter()
        .map(|charge| format!("{} {}", charge.quota.metadata.name.as_deref().unwrap(), charge.used["pods"]))
        .collect();
    assert_eq!(shown, ["short 2"]);
}

#[test]
fn a_priority_class_must_exist_and_decides() {
    let mut cluster = cluster();
    let mut named = pod();
    named["spec"]["priorityClassName"] = json!("high");
    assert_eq!(
        admit_pod(&cluster, named.clone()).unwrap_err(),
        "pods \"p\" is forbidden: no PriorityClass with name high was found"
    );
    cluster.priorities = vec![json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"})];
    let pod = admit_pod(&cluster, named).unwrap();
    assert_eq!(
        (pod["spec"]["priority"].as_i64(), pod["spec"]["preemptionPolicy"].as_str()),
        (Some(1000), Some("Never"))
    );
}

#[test]
fn restricted_namespaces_refuse_a_careless_pod() {
    let mut cluster = cluster();
    cluster.namespace["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let words = admit_pod(&cluster, pod()).unwrap_err();
    insta::assert_snapshot!(words, @r#"pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#);
}

#[test]
fn a_kubelet_makes_only_mirror_pods_and_changes_only_its_node() {
    let kubelet = UserInfo::new("system:node:n1", &["system:nodes"]);
    let mut request = create(&kubelet, "pods");
    let words = |result: Result<(), Status>| result.unwrap_err().message;
    let refused = words(validate(&request, &cluster(), Some(&pod()), None));
    assert!(refused.contains("can only create mirror pods"), "{refused}");
    request = Request { resource: "nodes", kind: "Node", namespace: "", name: "n2", ..request };
    let node = |name: &str, label: &str| json!({"metadata": {"name": name, "labels": {(label): "x"}}, "spec": {}});
    let refused = words(validate(&request, &cluster(), Some(&node("n2", "a")), None));
    assert!(refused.contains("node \"n1\" is not allowed to modify node \"n2\""), "{refused}");
    let refused = words(validate(&request, &cluster(), Some(&node("n1", "node-role.kubernetes.io/x")), None));
    assert!(refused.contains("not allowed to set the following labels: node-role.kubernetes.io/x"), "{refused}");
    assert!(validate(&request, &cluster(), Some(&node("n1", "kubernetes.io/hostname")), None).is_ok());
}

/// What becomes of a change of a pod through one of its subresources.
fn change(cluster: &Cluster, subresource: &str, new: &Value) -> String {
    let user = UserInfo::new("ann", &[]);
    let request = Request { operation: Operation::Update, subresource, ..create(&user, "pods") };
    let mut new = new.clone();
    let outcome = mutate(&request, cluster, &mut new, Some(&pod()));
    let outcome = outcome.and_then(|()| validate(&request, cluster, Some(&new), Some(&pod())));
    outcome.map_or_else(|status| status.message, |()| "admitted".to_owned())
}

#[test]
fn a_debug_container_is_held_to_the_standard_of_its_namespace() {
    let mut cluster = cluster();
    cluster.namespace["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    let mut debugged = pod();
    debugged["spec"]["ephemeralContainers"] =
        json!([{"name": "d", "image": "i", "securityContext": {"privileged": true}}]);
    let words = change(&cluster, "ephemeralcontainers", &debugged);
    assert!(words.contains("violates PodSecurity \"baseline:latest\": privileged (container \"d\""), "{words}");
    assert_eq!(change(&cluster, "status", &debugged), "admitted");
    // What is there already is not judged again.
    let mut tolerating = pod();
    tolerating["spec"]["tolerations"] = json!([{"operator": "Exists"}]);
    cluster.namespace["metadata"]["labels"] = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    assert_eq!(change(&cluster, "", &tolerating), "admitted");
}

#[test]
fn a_resize_stays_within_the_limits_of_its_namespace_and_node() {
    let mut cluster = cluster();
    cluster.limits =
        vec![json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}})];
    cluster.node = json!({"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "1500m", "memory": "1Gi"}}});
    let sized = |cpu: &str| {
        let mut pod = pod();
        pod["metadata"]["generation"] = json!(2);
        pod["spec"]["nodeName"] = json!("n1");
        let amount = json!({"cpu": cpu});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": amount, "limits": amount});
        pod
    };
    let over = "pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3";
    assert_eq!(change(&cluster, "resize", &sized("3")), over);
    let full = "pods \"p\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1500";
    assert_eq!(change(&cluster, "resize", &sized("2")), full);
    assert_eq!(change(&cluster, "resize", &sized("1")), "admitted");
    assert_eq!(change(&cluster, "", &sized("3")), "admitted");
}

#[test]
fn a_kubelet_asks_only_for_audiences_that_its_pod_names() {
    let kubelet = UserInfo::new("system:node:n1", &["system:nodes"]);
    let mut cluster = cluster();
    let token = |audience: &str| json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"audience": audience, "path": "t"}}]}});
    cluster.pod = pod();
    cluster.pod["metadata"]["uid"] = json!("u");
    cluster.pod["spec"]["nodeName"] = json!("n1");
    cluster.pod["spec"]["volumes"] =
        json!([token("vault"), {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]);
    let ask = |cluster: &Cluster, audiences: Value| {
        let request = Request {
            kind: "TokenRequest",
            resource: "serviceaccounts",
            subresource: "token",
            name: "sa",
            ..create(&kubelet, "")
        };
        let asked = json!({"spec": {"audiences": audiences, "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "u"}}});
        validate(&request, cluster, Some(&asked), None).map_or_else(|status| status.message, |()| "admitted".to_owned())
    };
    assert_eq!(ask(&cluster, json!(["vault"])), "admitted");
    assert_eq!(ask(&cluster, json!(["of-driver"])), "admitted");
    let refused = |audience: &str| {
        format!(
            "serviceaccounts \"sa\" is forbidden: system:node:n1 is not authorized to request tokens for audience {audience:?}"
        )
    };
    assert_eq!((ask(&cluster, json!(["other"])), ask(&cluster, json!([]))), (refused("other"), refused("")));
    let words = "serviceaccounts \"sa\" is forbidden: node may only request 0 or 1 audiences";
    assert_eq!(ask(&cluster, json!(["vault", "of-driver"])), words);
    cluster.pod["spec"]["volumes"] = json!([token("")]);
    assert_eq!(ask(&cluster, Value::Null), "admitted");
}
