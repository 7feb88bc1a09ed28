//! What a cluster holds for those who join it: rights of bootstrap tokens and nodes, and what a node must know of the
//! cluster. Names and contents are kubeadm's, so that its `join` and ours understand each other's clusters.
//!
//! kubernetes/kubernetes cmd/kubeadm/app/phases/bootstraptoken, phases/kubelet, phases/uploadconfig: decide what there is.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::discovery;
use crate::token::JOINING_GROUP;

const RBAC: &str = "rbac.authorization.k8s.io";
const SYSTEM: &str = "kube-system";
const CLUSTER_CONFIG: &str = "kubeadm-config";
const KUBELET_CONFIG: &str = "kubelet-config";
const NODES: &str = "system:nodes";

/// What a node must know of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// `v1.37.2`
    pub version: String,
    pub pod_subnet: String,
    pub service_subnet: String,
    pub dns_domain: String,
    pub dns_address: IpAddr,
}

/// Why what a cluster says of itself is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the ConfigMap kube-system/{map} of this cluster {what}")]
pub struct Unusable {
    map: &'static str,
    what: String,
}

/// The names of the ConfigMaps, in `kube-system`, that [`ClusterFacts::read`] needs, in its order.
pub const CONFIG_MAPS: [&str; 2] = [CLUSTER_CONFIG, KUBELET_CONFIG];

impl ClusterFacts {
    /// Reads the facts from the data of [`CONFIG_MAPS`].
    ///
    /// # Errors
    /// Something is not there.
    pub fn read(cluster: &Value, kubelet: &Value) -> Result<ClusterFacts, Unusable> {
        let of_cluster = document(CLUSTER_CONFIG, cluster, "ClusterConfiguration")?;
        let of_kubelet = document(KUBELET_CONFIG, kubelet, "kubelet")?;
        let text = |map, document: &Value, pointer: &str| match document.pointer(pointer).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(Unusable { map, what: format!("does not say {pointer}") }),
        };
        let address = text(KUBELET_CONFIG, &of_kubelet, "/clusterDNS/0")?;
        Ok(ClusterFacts {
            version: text(CLUSTER_CONFIG, &of_cluster, "/kubernetesVersion")?,
            pod_subnet: text(CLUSTER_CONFIG, &of_cluster, "/networking/podSubnet")?,
            service_subnet: text(CLUSTER_CONFIG, &of_cluster, "/networking/serviceSubnet")?,
            dns_domain: text(CLUSTER_CONFIG, &of_cluster, "/networking/dnsDomain")?,
            dns_address: address
                .parse()
                .map_err(|_| Unusable { map: KUBELET_CONFIG, what: format!("says {address:?} for an address") })?,
        })
    }

    fn config_maps(&self, server: &str) -> Vec<Value> {
        let endpoint = server.trim_start_matches("https://");
        let cluster = json!({
            "apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration",
            "clusterName": "kubernetes", "controlPlaneEndpoint": endpoint, "kubernetesVersion": self.version,
            "networking": {
                "dnsDomain": self.dns_domain, "podSubnet": self.pod_subnet, "serviceSubnet": self.service_subnet,
            },
        });
        let kubelet = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
            "authorization": {"mode": "Webhook"},
            "clusterDNS": [self.dns_address], "clusterDomain": self.dns_domain,
            "rotateCertificates": true, "serverTLSBootstrap": true,
        });
        let map = |name, key: &str, content: &Value| config_map(SYSTEM, name, &json!({key: yaml(content)}));
        vec![map(CLUSTER_CONFIG, "ClusterConfiguration", &cluster), map(KUBELET_CONFIG, "kubelet", &kubelet)]
    }
}

fn document(map: &'static str, data: &Value, key: &str) -> Result<Value, Unusable> {
    let unusable = |what: String| Unusable { map, what };
    let text = data[key].as_str().ok_or_else(|| unusable(format!("has no {key}")))?;
    serde_yaml_ng::from_str(text).map_err(|error| unusable(format!("cannot be read: {error}")))
}

fn yaml(value: &Value) -> String {
    #[allow(clippy::expect_used, reason = "a JSON value of strings, lists and maps is always YAML")]
    serde_yaml_ng::to_string(value).expect("JSON is YAML")
}

fn config_map(namespace: &str, name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data})
}

/// A user whose part on a node is not the kubelet's, and which a node may therefore take.
#[derive(Clone, Copy, Debug)]
pub enum Agent<'a> {
    User(&'a str),
    /// Of `kube-system`.
    ServiceAccount(&'a str),
}

/// Everything that joining needs of a cluster, but `cluster-info` (see [`cluster_info`]).
pub fn objects(server: &str, facts: &ClusterFacts, agents: &[Agent<'_>]) -> Vec<Value> {
    let joining = group(JOINING_GROUP);
    let both = json!([group(NODES), group(JOINING_GROUP)]);
    let csr = "system:certificates.k8s.io:certificatesigningrequests";
    let mut all = facts.config_maps(server);
    all.extend([
        cluster_binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", &json!([joining])),
        cluster_binding("kubeadm:node-autoapprove-bootstrap", &format!("{csr}:nodeclient"), &json!([joining])),
        cluster_binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{csr}:selfnodeclient"),
            &json!([group(NODES)]),
        ),
        role(
            "ClusterRole",
            None,
            "kubeadm:get-nodes",
            &json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]),
        ),
        cluster_binding("kubeadm:get-nodes", "kubeadm:get-nodes", &json!([joining])),
        reader(SYSTEM, "kubeadm:nodes-kubeadm-config", CLUSTER_CONFIG),
        binding(SYSTEM, "kubeadm:nodes-kubeadm-config", &both),
        reader(SYSTEM, "kubeadm:kubelet-config", KUBELET_CONFIG),
        binding(SYSTEM, "kubeadm:kubelet-config", &both),
        reader(discovery::NAMESPACE, "kubeadm:bootstrap-signer-clusterinfo", discovery::NAME),
        binding(
            discovery::NAMESPACE,
            "kubeadm:bootstrap-signer-clusterinfo",
            &json!([{"apiGroup": RBAC, "kind": "User", "name": "system:anonymous"}]),
        ),
    ]);
    all.extend(agent_rights(agents));
    all
}

/// The ConfigMap by which the cluster is known; controllers sign it, so its other data is theirs.
pub fn cluster_info(server: &str, authority: &str) -> Value {
    config_map(discovery::NAMESPACE, discovery::NAME, &discovery::cluster_info(server, authority))
}

/// A node is the kubelet, whose rights the Node authorizer bounds; the other parts of a node's process act as the users
/// that they are anywhere, which this lets nodes be.
fn agent_rights(agents: &[Agent<'_>]) -> Vec<Value> {
    const NAME: &str = "windlass:node-agents";
    let (mut users, mut accounts) = (Vec::new(), Vec::new());
    for agent in agents {
        match agent {
            Agent::User(name) => users.push(*name),
            Agent::ServiceAccount(name) => accounts.push(*name),
        }
    }
    let rule = |resource: &str, names: &[&str]| json!([{"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": ["impersonate"]}]);
    let nodes = json!([group(NODES)]);
    vec![
        role("ClusterRole", None, NAME, &rule("users", &users)),
        cluster_binding(NAME, NAME, &nodes),
        role("Role", Some(SYSTEM), NAME, &rule("serviceaccounts", &accounts)),
        binding(SYSTEM, NAME, &nodes),
    ]
}

fn group(name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": "Group", "name": name})
}

fn role(kind: &str, namespace: Option<&str>, name: &str, rules: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata, "rules": rules})
}

fn reader(namespace: &str, name: &str, map: &str) -> Value {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [map], "verbs": ["get"]}]);
    role("Role", Some(namespace), name, &rules)
}

fn cluster_binding(name: &str, role: &str, subjects: &Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}, "subjects": subjects,
    })
}

/// Gives the Role of the same name.
fn binding(namespace: &str, name: &str, subjects: &Value) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": "RoleBinding", "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name}, "subjects": subjects,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let facts = ClusterFacts {
            version: "v1.37.2".into(),
            pod_subnet: "10.244.0.0/16".into(),
            service_subnet: "10.96.0.0/12".into(),
            dns_domain: "cluster.local".into(),
            dns_address: IpAddr::from([10, 96, 0, 10]),
        };
        let objects = objects("https://10.0.0.1:6443", &facts, &[]);
        let data = |name: &str| objects.iter().find(|o| o["metadata"]["name"] == name).unwrap()["data"].clone();
        let [cluster, kubelet] = CONFIG_MAPS.map(data);
        assert_eq!(ClusterFacts::read(&cluster, &kubelet).unwrap(), facts);
        let error = ClusterFacts::read(&kubelet, &kubelet).unwrap_err().to_string();
        assert_eq!(error, "the ConfigMap kube-system/kubeadm-config of this cluster has no ClusterConfiguration");
    }
}
