//! NodeRestriction: a kubelet changes its own Node and the pods bound to it, nothing else.
//!
//! kubernetes/kubernetes plugin/pkg/admission/noderestriction/admission.go

use k8s_openapi::api::core::v1::Pod;
use machinery::gvk::GroupResource;
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Request, View};

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels under `kubernetes.io` and `k8s.io` that a kubelet may set on its node.
const LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "node.kubernetes.io/windows-build",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const LABEL_PREFIXES: &[&str] = &["kubelet.kubernetes.io/", "node.kubernetes.io/"];

pub fn validate(request: &Request, view: &dyn View, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let Some(node) = request.user.node() else { return Ok(()) };
    match (request.group, request.resource, request.subresource) {
        ("", "pods", "") => pod(request, node, new, old),
        ("", "pods", "status") => pod_status(request, node, old),
        ("", "pods", "eviction") => eviction(request, view, node),
        ("", "pods", other) => Err(request
            .forbidden(format_args!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))),
        ("", "nodes", "" | "status") => own_node(request, node, new, old),
        ("", "serviceaccounts", "token") => token(request, view, node, new),
        ("coordination.k8s.io", "leases", "") => own_name(request, node, new, "lease"),
        ("storage.k8s.io", "csinodes", "") => own_name(request, node, new, "csinode"),
        _ => Ok(()),
    }
}

fn bound_to(pod: Option<&Value>, node: &str) -> bool {
    pod.is_some_and(|pod| pod["spec"]["nodeName"] == node)
}

fn pod(request: &Request, node: &str, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    match request.operation {
        Operation::Create => {
            let mirror = new.is_some_and(|pod| pod["metadata"]["annotations"].get(MIRROR).is_some());
            if !mirror {
                let name = new.and_then(|p| p["metadata"]["name"].as_str()).unwrap_or_default();
                return Err(request.forbidden(format_args!(
                    "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods ({name})"
                )));
            }
            if !bound_to(new, node) {
                return Err(request
                    .forbidden(format_args!("node {node:?} can only create pods with spec.nodeName set to itself")));
            }
            Ok(())
        }
        Operation::Delete if !bound_to(old, node) => {
            Err(request.forbidden(format_args!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        Operation::Delete => Ok(()),
        _ => Err(request.forbidden(format_args!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            request.operation
        ))),
    }
}

fn pod_status(request: &Request, node: &str, old: Option<&Value>) -> Result<(), Status> {
    if bound_to(old, node) {
        return Ok(());
    }
    Err(request
        .forbidden(format_args!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")))
}

fn eviction(request: &Request, view: &dyn View, node: &str) -> Result<(), Status> {
    let pod = view.pod(request.namespace, request.name);
    let own = pod.is_some_and(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node));
    if own {
        return Ok(());
    }
    Err(request.forbidden(format_args!("node {node} can only evict pods with spec.nodeName set to itself")))
}

fn own_node(request: &Request, node: &str, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let named = new.or(old).and_then(|n| n["metadata"]["name"].as_str()).unwrap_or(request.name);
    if named != node {
        return Err(request.forbidden(format_args!("node {node:?} is not allowed to modify node {named:?}")));
    }
    let Some(new) = new else { return Ok(()) };
    if request.operation == Operation::Create && !new["spec"]["configSource"].is_null() {
        return Err(
            request.forbidden(format_args!("node {node:?} is not allowed to create pods with a non-nil configSource"))
        );
    }
    if request.operation == Operation::Update && request.subresource.is_empty() {
        let taints = |n: Option<&Value>| n.map(|n| n["spec"]["taints"].clone()).filter(|t| !t.is_null());
        if taints(old) != taints(Some(new)) {
            return Err(request.forbidden(format_args!("node {node:?} is not allowed to modify taints")));
        }
    }
    let changed = forbidden_labels(new, old);
    if changed.is_empty() {
        return Ok(());
    }
    let verb = if request.operation == Operation::Create { "set" } else { "modify" };
    Err(request.forbidden(format_args!("is not allowed to {verb} the following labels: {}", changed.join(", "))))
}

fn forbidden_labels(new: &Value, old: Option<&Value>) -> Vec<String> {
    let labels = |node: &Value| node["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let (new, old) = (labels(new), old.map(labels).unwrap_or_default());
    let keys: std::collections::BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    keys.into_iter().filter(|key| new.get(*key) != old.get(*key) && !allowed_label(key)).cloned().collect()
}

fn allowed_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let restricted = |domain: &str, of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    if restricted(domain, "node-restriction.kubernetes.io") {
        return false;
    }
    if !restricted(domain, "kubernetes.io") && !restricted(domain, "k8s.io") {
        return true;
    }
    LABELS.contains(&key)
        || LABEL_PREFIXES.iter().any(|prefix| {
            let of = prefix.trim_end_matches('/');
            restricted(domain, of)
        })
}

fn token(request: &Request, view: &dyn View, node: &str, new: Option<&Value>) -> Result<(), Status> {
    let reference = new.map(|t| &t["spec"]["boundObjectRef"]).filter(|r| !r.is_null());
    let Some(reference) = reference else {
        return Err(request.forbidden(format_args!("node requested token not bound to a pod")));
    };
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    if text("kind") != "Pod" || text("apiVersion") != "v1" || text("name").is_empty() {
        return Err(request.forbidden("node requested token not bound to a pod"));
    }
    if text("uid").is_empty() {
        return Err(request.forbidden("node requested token with a pod binding without a uid"));
    }
    let missing = || Status::not_found(&GroupResource::new("", "pods"), text("name"));
    let pod = view.pod(request.namespace, text("name")).ok_or_else(missing)?;
    if pod.metadata.uid.as_deref() != Some(text("uid")) {
        return Err(request.forbidden(format_args!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        )));
    }
    if pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) != Some(node) {
        return Err(request.forbidden("node requested token bound to a pod scheduled on a different node"));
    }
    let audiences = new.and_then(|t| t["spec"]["audiences"].as_array()).map(Vec::as_slice).unwrap_or_default();
    let audience = match audiences {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(request.forbidden("node may only request 0 or 1 audiences")),
    };
    let verb = "request-serviceaccounts-token-audience";
    if names_audience(request, view, &pod, audience)
        || view.allowed(verb, request.group, audience, "", request.namespace, request.name)
    {
        return Ok(());
    }
    let user = &request.user.name;
    Err(request.forbidden(format_args!("{user} is not authorized to request tokens for audience {audience:?}")))
}

/// Whether a volume of the pod is to hold a token for the audience, or a CSI driver of one is given such a token.
fn names_audience(request: &Request, view: &dyn View, pod: &Pod, audience: &str) -> bool {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| {
        let projected = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let mut tokens = projected.filter_map(|source| source.service_account_token.as_ref());
        if tokens.any(|token| token.audience.as_deref().unwrap_or_default() == audience) {
            return true;
        }
        let claim = match (&volume.ephemeral, &volume.persistent_volume_claim) {
            (Some(_), _) => Some(format!("{name}-{}", volume.name)),
            (None, claim) => claim.as_ref().map(|claim| claim.claim_name.clone()),
        };
        let of_claim = claim.and_then(|claim| view.csi_driver_of_claim(request.namespace, &claim));
        let driver = of_claim.or_else(|| volume.csi.as_ref().map(|csi| csi.driver.clone()));
        driver.is_some_and(|driver| view.csi_audiences(&driver).iter().any(|given| given == audience))
    })
}

fn own_name(request: &Request, node: &str, new: Option<&Value>, what: &str) -> Result<(), Status> {
    let name = new.and_then(|o| o["metadata"]["name"].as_str()).unwrap_or(request.name);
    if what == "lease" && request.namespace != "kube-node-lease" {
        return Err(request.forbidden("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    if name != node {
        return Err(request.forbidden(format_args!("can only access {what} with the same name as the requesting node")));
    }
    Ok(())
}
