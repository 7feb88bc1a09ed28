//! The Node authorizer: a kubelet reads only what the pods bound to its node refer to, and writes only its own objects.
//!
//! kubernetes/kubernetes plugin/pkg/auth/authorizer/node/node_authorizer.go: the resources treated specially and why.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::attributes::{Attributes, Decision};
use crate::policy;
use crate::rbac::rule_allows;

/// What the authorizer must see. The API server answers from its caches.
pub trait NodeView {
    /// Pods bound to the node.
    fn pods_on(&self, node: &str) -> Vec<Arc<Pod>>;
    /// Name of the PersistentVolume that a claim is bound to.
    fn volume_of_claim(&self, namespace: &str, claim: &str) -> Option<String>;
    /// Secrets (namespace, name) that a PersistentVolume refers to.
    fn secrets_of_volume(&self, volume: &str) -> Vec<(String, String)>;
    /// The node that a VolumeAttachment names.
    fn node_of_attachment(&self, name: &str) -> Option<String>;
}

/// Whether the Node authorizer allows the request. Users that are no kubelets get no opinion.
pub fn authorize(view: &dyn NodeView, request: &Attributes) -> Decision {
    let Some(node) = request.user.node() else { return Decision::NoOpinion(String::new()) };
    if !request.is_resource() {
        return by_rule(request);
    }
    match (request.group, request.resource) {
        ("", "secrets" | "configmaps") => read_of_related(view, node, request, Watching::Allowed),
        ("", "persistentvolumeclaims") if request.subresource == "status" => by_rule(request),
        ("", "persistentvolumeclaims" | "persistentvolumes") | ("storage.k8s.io", "volumeattachments") => {
            read_of_related(view, node, request, Watching::No)
        }
        ("", "serviceaccounts") => service_account_token(view, node, request),
        ("coordination.k8s.io", "leases") => own_lease(node, request),
        ("storage.k8s.io", "csinodes") => own_object(node, request, "csinode"),
        ("resource.k8s.io", "resourceslices") => by_rule(request),
        ("", "nodes") if request.subresource.is_empty() || request.subresource == "status" => own_node(node, request),
        ("", "pods") => by_rule(request),
        _ => by_rule(request),
    }
}

fn by_rule(request: &Attributes) -> Decision {
    if policy::node_rules().iter().any(|rule| rule_allows(rule, request)) {
        Decision::Allow(String::new())
    } else {
        Decision::NoOpinion(String::new())
    }
}

fn no(words: impl Into<String>) -> Decision {
    Decision::NoOpinion(words.into())
}

#[derive(PartialEq)]
enum Watching {
    Allowed,
    No,
}

fn read_of_related(view: &dyn NodeView, node: &str, request: &Attributes, watching: Watching) -> Decision {
    let verb_fits =
        request.verb == "get" || (watching == Watching::Allowed && matches!(request.verb, "list" | "watch"));
    if !verb_fits {
        return no(format!("node '{node}' cannot {} {}", request.verb, request.resource));
    }
    if !request.subresource.is_empty() {
        return no("no subresource of it may be read");
    }
    if request.name.is_empty() {
        return no("No Object name found");
    }
    if refers_to(view, node, request) {
        Decision::Allow(String::new())
    } else {
        no(format!("no relationship found between node '{node}' and this object"))
    }
}

fn refers_to(view: &dyn NodeView, node: &str, request: &Attributes) -> bool {
    let (ns, name) = (request.namespace, request.name);
    if request.resource == "volumeattachments" {
        return view.node_of_attachment(name).as_deref() == Some(node);
    }
    view.pods_on(node).iter().any(|pod| {
        let same_namespace = pod.metadata.namespace.as_deref().unwrap_or_default() == ns;
        match request.resource {
            "configmaps" => same_namespace && references(pod).any(|r| r == Reference::ConfigMap(name)),
            "persistentvolumeclaims" => same_namespace && claims(pod).any(|claim| claim == name),
            "persistentvolumes" => claims(pod).any(|claim| {
                view.volume_of_claim(pod.metadata.namespace.as_deref().unwrap_or_default(), &claim).as_deref()
                    == Some(name)
            }),
            "secrets" => {
                (same_namespace && references(pod).any(|r| r == Reference::Secret(name)))
                    || claims(pod).any(|claim| {
                        let of = pod.metadata.namespace.as_deref().unwrap_or_default();
                        view.volume_of_claim(of, &claim).is_some_and(|volume| {
                            view.secrets_of_volume(&volume).iter().any(|(n, s)| n == ns && s == name)
                        })
                    })
            }
            _ => false,
        }
    })
}

#[derive(PartialEq)]
enum Reference<'a> {
    ConfigMap(&'a str),
    Secret(&'a str),
}

/// Every ConfigMap and Secret that a pod names: volumes, environment, pull secrets.
fn references(pod: &Pod) -> impl Iterator<Item = Reference<'_>> {
    let spec = pod.spec.as_ref();
    let containers = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
    let from_env = containers.flat_map(|c| {
        let whole = c.env_from.iter().flatten().flat_map(|e| {
            let map = e.config_map_ref.as_ref().map(|r| Reference::ConfigMap(&r.name));
            let secret = e.secret_ref.as_ref().map(|r| Reference::Secret(&r.name));
            map.into_iter().chain(secret)
        });
        let single = c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()).flat_map(|from| {
            let map = from.config_map_key_ref.as_ref().map(|r| Reference::ConfigMap(&r.name));
            let secret = from.secret_key_ref.as_ref().map(|r| Reference::Secret(&r.name));
            map.into_iter().chain(secret)
        });
        whole.chain(single)
    });
    let pull = spec.into_iter().flat_map(|s| s.image_pull_secrets.iter().flatten()).map(|r| Reference::Secret(&r.name));
    let volumes = spec.into_iter().flat_map(|s| s.volumes.iter().flatten()).flat_map(volume_references);
    from_env.chain(pull).chain(volumes)
}

fn volume_references(volume: &Volume) -> Vec<Reference<'_>> {
    let mut out = Vec::new();
    out.extend(volume.config_map.as_ref().map(|m| Reference::ConfigMap(&m.name)));
    out.extend(volume.secret.as_ref().and_then(|s| s.secret_name.as_deref()).map(Reference::Secret));
    for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        out.extend(source.config_map.as_ref().map(|m| Reference::ConfigMap(&m.name)));
        out.extend(source.secret.as_ref().map(|s| Reference::Secret(&s.name)));
    }
    let csi = volume.csi.as_ref().and_then(|c| c.node_publish_secret_ref.as_ref());
    out.extend(csi.map(|r| Reference::Secret(&r.name)));
    out
}

/// Claims that a pod uses, those of its ephemeral volumes included (`<pod>-<volume>`).
fn claims(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(move |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{name}-{}", volume.name)),
        _ => None,
    })
}

fn service_account_token(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match (request.verb, request.subresource) {
        ("get", "") | ("create", "token") => {}
        _ => return no("can only get a service account or create a token for it"),
    }
    let used = view.pods_on(node).iter().any(|pod| {
        pod.metadata.namespace.as_deref() == Some(request.namespace)
            && pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()) == Some(request.name)
    });
    if used {
        Decision::Allow(String::new())
    } else {
        no(format!("no relationship found between node '{node}' and this object"))
    }
}

fn own_lease(node: &str, request: &Attributes) -> Decision {
    if !matches!(request.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if request.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    if request.verb != "create" && request.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Decision::Allow(String::new())
}

fn own_object(node: &str, request: &Attributes, what: &str) -> Decision {
    if !matches!(request.verb, "get" | "create" | "update" | "patch" | "delete") || !request.subresource.is_empty() {
        return no(format!("can only get, create, update, patch, or delete a {what}"));
    }
    if request.verb != "create" && request.name != node {
        return no(format!("can only access {what} with the same name as the requesting node"));
    }
    Decision::Allow(String::new())
}

fn own_node(node: &str, request: &Attributes) -> Decision {
    if request.verb == "get" && request.name != node {
        return no(format!("node '{node}' cannot read '{}', only its own Node object", request.name));
    }
    by_rule(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::UserInfo;

    struct OnePod;
    impl NodeView for OnePod {
        fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
            let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": {
                "serviceAccountName": "sa", "imagePullSecrets": [{"name": "pull"}],
                "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "env"}}]}],
                "volumes": [{"name": "v", "secret": {"secretName": "s"}},
                            {"name": "w", "persistentVolumeClaim": {"claimName": "claim"}}]}});
            if node == "n1" { vec![Arc::new(serde_json::from_value(pod).unwrap())] } else { vec![] }
        }
        fn volume_of_claim(&self, _: &str, claim: &str) -> Option<String> {
            (claim == "claim").then(|| "pv".to_owned())
        }
        fn secrets_of_volume(&self, _: &str) -> Vec<(String, String)> {
            vec![]
        }
        fn node_of_attachment(&self, _: &str) -> Option<String> {
            None
        }
    }

    fn allowed(node: &str, verb: &str, group: &str, resource: &str, sub: &str, ns: &str, name: &str) -> bool {
        let user = UserInfo::new(format!("system:node:{node}"), &["system:nodes"]);
        let request = Attributes {
            user: &user,
            verb,
            group,
            version: "v1",
            resource,
            subresource: sub,
            namespace: ns,
            name,
            path: "",
        };
        matches!(authorize(&OnePod, &request), Decision::Allow(_))
    }

    #[test]
    fn a_node_reads_only_what_its_pods_name() {
        for (resource, name) in
            [("secrets", "s"), ("secrets", "pull"), ("configmaps", "env"), ("persistentvolumeclaims", "claim")]
        {
            assert!(allowed("n1", "get", "", resource, "", "ns", name), "{resource}/{name}");
            assert!(!allowed("n2", "get", "", resource, "", "ns", name), "{resource}/{name} from n2");
            assert!(!allowed("n1", "get", "", resource, "", "other", name), "{resource}/{name} in other");
        }
        assert!(allowed("n1", "get", "", "persistentvolumes", "", "", "pv"));
        assert!(!allowed("n1", "list", "", "secrets", "", "ns", ""));
        assert!(!allowed("n1", "update", "", "secrets", "", "ns", "s"));
    }

    #[test]
    fn a_node_writes_only_its_own_lease_and_tokens_of_its_pods() {
        assert!(allowed("n1", "update", "coordination.k8s.io", "leases", "", "kube-node-lease", "n1"));
        assert!(!allowed("n1", "update", "coordination.k8s.io", "leases", "", "kube-node-lease", "n2"));
        assert!(!allowed("n1", "get", "coordination.k8s.io", "leases", "", "kube-system", "n1"));
        assert!(allowed("n1", "create", "", "serviceaccounts", "token", "ns", "sa"));
        assert!(!allowed("n1", "create", "", "serviceaccounts", "token", "ns", "default"));
    }

    #[test]
    fn ordinary_rules_apply_to_the_rest() {
        assert!(allowed("n1", "list", "", "pods", "", "", ""));
        assert!(allowed("n1", "patch", "", "nodes", "status", "", "n1"));
        assert!(allowed("n1", "create", "", "events", "", "ns", "e"));
        assert!(!allowed("n1", "create", "apps", "deployments", "", "ns", "d"));
    }
}
