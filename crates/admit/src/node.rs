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
    /// Secrets (namespace, name) of a PersistentVolume that a kubelet has use for.
    fn secrets_of_volume(&self, volume: &str) -> Vec<(String, String)>;
    /// The node that a VolumeAttachment, a ResourceSlice or a PodCertificateRequest names.
    fn node_of(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<String>;
}

/// Whether the Node authorizer allows the request. Users that are no kubelets get no opinion.
pub fn authorize(view: &dyn NodeView, request: &Attributes) -> Decision {
    let Some(node) = request.user.node() else { return Decision::NoOpinion(String::new()) };
    if !request.is_resource() {
        return by_rule(request);
    }
    match (request.group, request.resource) {
        ("", "secrets" | "configmaps") => read_of_related(view, node, request),
        ("", "persistentvolumeclaims") if request.subresource == "status" => match request.verb {
            "update" | "patch" => related(view, node, request),
            _ => no("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims" | "persistentvolumes")
        | ("storage.k8s.io", "volumeattachments")
        | ("resource.k8s.io", "resourceclaims") => get_of_related(view, node, request),
        ("", "serviceaccounts") => service_account(view, node, request),
        ("coordination.k8s.io", "leases") => own_lease(node, request),
        ("storage.k8s.io", "csinodes") => own_csi_node(node, request),
        ("resource.k8s.io", "resourceslices") => resource_slice(view, node, request),
        ("certificates.k8s.io", "podcertificaterequests") => certificate_request(view, node, request),
        ("", "nodes") => own_node(node, request),
        ("", "pods") => pod(view, node, request),
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

fn allow() -> Decision {
    Decision::Allow(String::new())
}

fn read_of_related(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match request.verb {
        "get" | "list" | "watch" if !request.subresource.is_empty() => no("cannot read subresource"),
        "get" | "list" | "watch" if request.namespace.is_empty() => no("can only read namespaced object of this type"),
        "get" | "list" | "watch" => related(view, node, request),
        _ => no("can only read resources of this type"),
    }
}

fn get_of_related(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match request.verb {
        "get" if !request.subresource.is_empty() => no("cannot get subresource"),
        "get" => related(view, node, request),
        _ => no("can only get individual resources of this type"),
    }
}

fn related(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match request.name {
        "" => no("No Object name found"),
        _ if refers_to(view, node, request) => allow(),
        _ => no(format!("no relationship found between node '{node}' and this object")),
    }
}

fn refers_to(view: &dyn NodeView, node: &str, request: &Attributes) -> bool {
    let (ns, name) = (request.namespace, request.name);
    if matches!(request.resource, "volumeattachments" | "resourceslices" | "podcertificaterequests") {
        return view.node_of(request.group, request.resource, ns, name).as_deref() == Some(node);
    }
    view.pods_on(node).iter().any(|pod| {
        let of = pod.metadata.namespace.as_deref().unwrap_or_default();
        if request.resource == "pods" {
            return of == ns && pod.metadata.name.as_deref() == Some(name);
        }
        // A kubelet makes mirror pods itself: they must not open anything to it.
        !is_mirror(pod) && names(view, pod, of, request)
    })
}

/// Whether a pod of the namespace `of` refers to what is asked for.
fn names(view: &dyn NodeView, pod: &Pod, of: &str, request: &Attributes) -> bool {
    let (same_namespace, name) = (of == request.namespace, request.name);
    let mut volumes = claims(pod).filter_map(|claim| view.volume_of_claim(of, &claim));
    match request.resource {
        "configmaps" => same_namespace && references(pod).any(|r| r == Reference::ConfigMap(name)),
        "persistentvolumeclaims" => same_namespace && claims(pod).any(|claim| claim == name),
        "resourceclaims" => same_namespace && resource_claims(pod).any(|claim| claim == name),
        "serviceaccounts" => {
            same_namespace && pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()) == Some(name)
        }
        "persistentvolumes" => volumes.any(|volume| volume == name),
        "secrets" => {
            (same_namespace && references(pod).any(|r| r == Reference::Secret(name)))
                || volumes.any(|volume| {
                    view.secrets_of_volume(&volume).iter().any(|(of, s)| of == request.namespace && s == name)
                })
        }
        _ => false,
    }
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"))
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
    let containers = containers.map(|c| (&c.env, &c.env_from));
    let ephemeral = spec.into_iter().flat_map(|s| s.ephemeral_containers.iter().flatten());
    let from_env = containers.chain(ephemeral.map(|c| (&c.env, &c.env_from))).flat_map(|(env, env_from)| {
        let whole = env_from.iter().flatten().flat_map(|e| {
            let map = e.config_map_ref.as_ref().map(|r| Reference::ConfigMap(&r.name));
            let secret = e.secret_ref.as_ref().map(|r| Reference::Secret(&r.name));
            map.into_iter().chain(secret)
        });
        let single = env.iter().flatten().filter_map(|e| e.value_from.as_ref()).flat_map(|from| {
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

/// kubernetes/kubernetes pkg/api/v1/pod/util.go: VisitPodSecretNames, VisitPodConfigmapNames
fn volume_references(volume: &Volume) -> Vec<Reference<'_>> {
    let mut out = Vec::new();
    out.extend(volume.config_map.as_ref().map(|m| Reference::ConfigMap(&m.name)));
    out.extend(volume.secret.as_ref().and_then(|s| s.secret_name.as_deref()).map(Reference::Secret));
    for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        out.extend(source.config_map.as_ref().map(|m| Reference::ConfigMap(&m.name)));
        out.extend(source.secret.as_ref().map(|s| Reference::Secret(&s.name)));
    }
    out.extend(volume.azure_file.as_ref().map(|source| Reference::Secret(&source.secret_name)));
    let by_reference = [
        volume.csi.as_ref().and_then(|source| source.node_publish_secret_ref.as_ref()),
        volume.cephfs.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.cinder.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.flex_volume.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.rbd.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.scale_io.as_ref().map(|source| &source.secret_ref),
        volume.iscsi.as_ref().and_then(|source| source.secret_ref.as_ref()),
        volume.storageos.as_ref().and_then(|source| source.secret_ref.as_ref()),
    ];
    out.extend(by_reference.into_iter().flatten().map(|reference| Reference::Secret(&reference.name)));
    out
}

/// ResourceClaims that a pod names or that were made for it.
fn resource_claims(pod: &Pod) -> impl Iterator<Item = &str> {
    let named = pod.spec.iter().flat_map(|s| s.resource_claims.iter().flatten());
    let named = named.filter_map(|claim| claim.resource_claim_name.as_deref());
    let made = pod.status.iter().flat_map(|s| s.resource_claim_statuses.iter().flatten());
    let made = made.filter_map(|claim| claim.resource_claim_name.as_deref());
    let extended = pod.status.iter().filter_map(|s| s.extended_resource_claim_status.as_ref());
    named.chain(made).chain(extended.map(|claim| claim.resource_claim_name.as_str()))
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

fn service_account(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match (request.verb, request.subresource) {
        ("get", "") => read_of_related(view, node, request),
        ("create", _) if request.name.is_empty() => no("can only create tokens for individual service accounts"),
        ("create", "token") => related(view, node, request),
        ("create", _) => no("can only create token subresource of serviceaccount"),
        _ => no("can only create tokens for individual service accounts"),
    }
}

/// Lists and watches of a kubelet are limited to what names its node.
fn pod(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match (request.subresource, request.verb) {
        ("", "get") => get_of_related(view, node, request),
        ("", "list" | "watch") if request.selects("spec.nodeName", node) => allow(),
        ("", "list" | "watch") if !request.name.is_empty() => related(view, node, request),
        ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
        // NodeRestriction sees to it that these are the node's own.
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow(),
        _ => no(""),
    }
}

fn resource_slice(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match request.verb {
        _ if !request.subresource.is_empty() => no("cannot authorize ResourceSlice subresources"),
        "create" => allow(),
        "get" | "update" | "patch" | "delete" => related(view, node, request),
        "watch" | "list" | "deletecollection" if request.selects("spec.nodeName", node) => allow(),
        "watch" | "list" | "deletecollection" => {
            no("can only list/watch/deletecollection resourceslices with nodeName field selector")
        }
        _ => no(
            "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
        ),
    }
}

fn certificate_request(view: &dyn NodeView, node: &str, request: &Attributes) -> Decision {
    match request.verb {
        _ if !request.subresource.is_empty() => {
            no("nodes may not access the status subresource of PodCertificateRequests")
        }
        "create" => allow(),
        "get" => related(view, node, request),
        "list" | "watch" if request.selects("spec.nodeName", node) => allow(),
        "list" | "watch" => no("can only list/watch podcertificaterequests with nodeName field selector"),
        verb => no(format!("nodes may not {verb} podcertificaterequests")),
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

fn own_csi_node(node: &str, request: &Attributes) -> Decision {
    if !request.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if !matches!(request.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if request.verb != "create" && request.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    allow()
}

fn own_node(node: &str, request: &Attributes) -> Decision {
    match (request.subresource, request.verb, request.name) {
        // NodeRestriction sees to it that these are of the node itself.
        ("", "create" | "update" | "patch", _) | ("status", "update" | "patch", _) => allow(),
        ("", "get" | "list" | "watch", name) if name == node => allow(),
        ("", "get" | "list" | "watch", "") => {
            no(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch", name) => {
            no(format!("node '{node}' cannot read '{name}', only its own Node object"))
        }
        _ => no(""),
    }
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
        fn node_of(&self, _: &str, resource: &str, _: &str, name: &str) -> Option<String> {
            (resource == "volumeattachments" && name == "attached").then(|| "n1".to_owned())
        }
    }

    fn allowed(node: &str, verb: &str, group: &str, resource: &str, sub: &str, ns: &str, name: &str) -> bool {
        let user = UserInfo::new(format!("system:node:{node}"), &["system:nodes"]);
        let request =
            Attributes { verb, group, resource, subresource: sub, namespace: ns, name, ..Attributes::of(&user) };
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
    fn a_node_sees_its_own_pods_and_itself() {
        assert!(allowed("n1", "get", "", "pods", "", "ns", "p") && !allowed("n2", "get", "", "pods", "", "ns", "p"));
        assert!(!allowed("n1", "get", "", "pods", "", "ns", "other"));
        let user = UserInfo::new("system:node:n1", &["system:nodes"]);
        let watch = |selector: &str| {
            let fields = machinery::fields::FieldSelector::parse(selector).unwrap();
            let fields = Some(&fields);
            authorize(&OnePod, &Attributes { verb: "watch", resource: "pods", fields, ..Attributes::of(&user) })
        };
        assert_eq!(watch("spec.nodeName=n1"), allow());
        let refused = no("can only list/watch pods with spec.nodeName field selector");
        assert_eq!(
            (watch(""), watch("spec.nodeName=n2"), watch("spec.nodeName!=n1")),
            (refused.clone(), refused.clone(), refused)
        );
        assert!(allowed("n1", "watch", "", "nodes", "", "", "n1") && !allowed("n1", "list", "", "nodes", "", "", ""));
        assert!(allowed("n1", "get", "storage.k8s.io", "volumeattachments", "", "", "attached"));
        assert!(!allowed("n2", "get", "storage.k8s.io", "volumeattachments", "", "", "attached"));
    }

    #[test]
    fn ordinary_rules_apply_to_the_rest() {
        assert!(allowed("n1", "patch", "", "nodes", "status", "", "n1"));
        assert!(allowed("n1", "create", "", "events", "", "ns", "e"));
        assert!(!allowed("n1", "create", "apps", "deployments", "", "ns", "d"));
    }
}
