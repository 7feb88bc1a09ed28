//! The roles and bindings that a new cluster starts with (`bootstrap.json`: the same names and rules as upstream's).
//!
//! kubernetes/kubernetes plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go: which there are.

use std::sync::LazyLock;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Value, json};

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    #[allow(clippy::expect_used, reason = "the file is part of the program, and a test reads it")]
    let mut objects: Vec<Value> = serde_json::from_str(include_str!("bootstrap.json")).expect("bootstrap.json is JSON");
    objects.extend_from_slice(&OWN);
    objects
});

static OWN: LazyLock<Vec<Value>> = LazyLock::new(|| {
    vec![
        object("ClusterRole", DNS, json!({"rules": dns_rules()})),
        metrics_reader(),
        binding(DNS, DNS, DNS_USER),
        object("ClusterRole", NETWORK_POLICIES, json!({"rules": network_policy_rules()})),
        binding(NETWORK_POLICIES, NETWORK_POLICIES, NETWORK_POLICY_USER),
        certificate_controller_serves(),
        binding("windlass:kubelet-client", "system:kubelet-api-admin", KUBELET_CLIENT),
    ]
});

/// The role of the cluster's DNS, by the name that CoreDNS is usually given.
const DNS: &str = "system:coredns";
/// The user that the API server is to kubelets.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";
/// The user that the cluster's DNS is.
pub const DNS_USER: &str = "system:serviceaccount:kube-system:coredns";

/// The role of who enforces network policies on a node.
const NETWORK_POLICIES: &str = "windlass:network-policies";
/// The user that enforces network policies.
pub const NETWORK_POLICY_USER: &str = "system:serviceaccount:kube-system:network-policies";

fn read(group: &str, resources: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": ["list", "watch"]})
}

fn network_policy_rules() -> Vec<Value> {
    vec![read("", &["pods", "namespaces"]), read("networking.k8s.io", &["networkpolicies"])]
}

fn dns_rules() -> Vec<Value> {
    vec![read("", &["endpoints", "services", "pods", "namespaces"]), read("discovery.k8s.io", &["endpointslices"])]
}

fn object(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    }});
    if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    object
}

/// What metrics-server adds to `view`, `edit` and `admin`.
fn metrics_reader() -> Value {
    let verbs = ["get", "list", "watch"];
    let rules = json!([{"apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": verbs}]);
    let mut role = object("ClusterRole", "system:aggregated-metrics-reader", json!({"rules": rules}));
    for into in ["view", "edit", "admin"] {
        role["metadata"]["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{into}")] = json!("true");
    }
    role
}

/// The approver of kubelets' client certificates approves those of their servers too, which upstream leaves to somebody
/// else.
fn certificate_controller_serves() -> Value {
    binding(
        "windlass:certificate-controller",
        "system:certificates.k8s.io:kubelet-serving-approver",
        "system:serviceaccount:kube-system:certificate-controller",
    )
}

/// Gives a ClusterRole to one user.
fn binding(name: &str, role: &str, user: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiGroup": group, "kind": "ClusterRole", "name": role});
    object(
        "ClusterRoleBinding",
        name,
        json!({
            "roleRef": role, "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }),
    )
}

static NODE_RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(|| {
    let rules = OBJECTS.iter().find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == "system:node");
    #[allow(clippy::expect_used, reason = "the file is part of the program, and a test reads it")]
    rules.and_then(|o| serde_json::from_value(o["rules"].clone()).ok()).expect("bootstrap.json has system:node")
});

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings as JSON objects, to be created when absent and, unless
/// annotated `rbac.authorization.kubernetes.io/autoupdate: "false"`, completed when rules or subjects are missing.
pub fn bootstrap_objects() -> &'static [Value] {
    &OBJECTS
}

/// Those of [`bootstrap_objects`] that an API server of another make does not have.
pub fn own_objects() -> &'static [Value] {
    &OWN
}

/// What any kubelet may do, where the Node authorizer does not treat the resource specially.
pub fn node_rules() -> &'static [PolicyRule] {
    &NODE_RULES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_well_known_roles_are_there() {
        let names: Vec<_> = bootstrap_objects()
            .iter()
            .filter(|o| o["kind"] == "ClusterRole")
            .filter_map(|o| o["metadata"]["name"].as_str())
            .collect();
        for name in
            ["cluster-admin", "admin", "edit", "view", "system:kube-scheduler", "system:controller:job-controller"]
        {
            assert!(names.contains(&name), "{name}");
        }
        assert!(!node_rules().is_empty());
    }
}
