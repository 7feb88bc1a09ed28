//! Admission: what the cluster changes in an object, or refuses, before it is stored. Each plugin is a file and a row
//! of [`PLUGINS`]; all are pure functions over a [`View`].
//!
//! kubernetes/kubernetes pkg/kubeapiserver/options/plugins.go: which run by default, and in which order.

mod limit_ranger;
mod namespace;
mod node_restriction;
mod pod_resize;
mod pod_security;
mod priority;
pub mod quota;
mod runtime_class;
mod service_account;
mod storage;
mod tolerations;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    LimitRange, Namespace, Node, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use machinery::gvk::GroupResource;
use machinery::status::Status;
use serde_json::Value;

use crate::attributes::UserInfo;

/// What is being done to the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A request as admission sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    /// Empty while a name is still to be generated.
    pub name: &'a str,
    pub user: &'a UserInfo,
}

impl Request<'_> {
    /// Whether this is the resource itself, not a subresource of it.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource && self.subresource.is_empty()
    }

    /// Whether this is one of the resource's subresources (`""` for the resource itself).
    pub fn is_of(&self, group: &str, resource: &str, subresources: &[&str]) -> bool {
        self.group == group && self.resource == resource && subresources.contains(&self.subresource)
    }

    fn forbidden(&self, words: impl std::fmt::Display) -> Status {
        let resource = GroupResource { group: self.group.into(), resource: self.resource.into() };
        Status::forbidden(&resource, self.name, words)
    }
}

/// What plugins must see of the cluster. The API server answers from its caches.
pub trait View {
    fn namespace(&self, name: &str) -> Option<Arc<Namespace>>;
    fn service_account(&self, namespace: &str, name: &str) -> Option<Arc<ServiceAccount>>;
    fn limit_ranges(&self, namespace: &str) -> Vec<Arc<LimitRange>>;
    fn quotas(&self, namespace: &str) -> Vec<Arc<ResourceQuota>>;
    fn priority_classes(&self) -> Vec<Arc<PriorityClass>>;
    fn runtime_class(&self, name: &str) -> Option<Arc<RuntimeClass>>;
    fn storage_classes(&self) -> Vec<Arc<StorageClass>>;
    fn ingress_classes(&self) -> Vec<Arc<IngressClass>>;
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;
    fn node(&self, name: &str) -> Option<Arc<Node>>;
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>>;
    /// The CSI driver of the volume that a claim is bound to.
    fn csi_driver_of_claim(&self, namespace: &str, claim: &str) -> Option<String>;
    /// The audiences of the tokens that a CSI driver is to be given.
    fn csi_audiences(&self, driver: &str) -> Vec<String>;
    /// Whether the request's user may do this as well.
    fn allowed(&self, verb: &str, group: &str, resource: &str, subresource: &str, namespace: &str, name: &str) -> bool;
}

/// Changes the new object, or refuses it.
pub type Mutate = fn(&Request, &dyn View, &mut Value, Option<&Value>) -> Result<(), Status>;
/// Looks at the new and the old object (each absent where the operation has none) and may refuse.
pub type Validate = fn(&Request, &dyn View, Option<&Value>, Option<&Value>) -> Result<(), Status>;

pub struct Plugin {
    pub name: &'static str,
    pub mutate: Option<Mutate>,
    pub validate: Option<Validate>,
}

const fn plugin(name: &'static str, mutate: Option<Mutate>, validate: Option<Validate>) -> Plugin {
    Plugin { name, mutate, validate }
}

/// In the order in which they are asked. `ResourceQuota` is apart: its check and its count must be one step, which the
/// API server takes with [`quota::admit`].
pub static PLUGINS: &[Plugin] = &[
    plugin("NamespaceLifecycle", Some(namespace::lifecycle), Some(namespace::immortal)),
    plugin("NodeRestriction", None, Some(node_restriction::validate)),
    plugin("TaintNodesByCondition", Some(tolerations::taint_new_node), None),
    plugin("LimitRanger", Some(limit_ranger::defaults), Some(limit_ranger::validate)),
    plugin("ServiceAccount", Some(service_account::mutate), Some(service_account::validate)),
    plugin("PodSecurity", None, Some(pod_security::validate)),
    plugin("Priority", Some(priority::mutate), Some(priority::validate)),
    plugin("DefaultTolerationSeconds", Some(tolerations::default_seconds), None),
    plugin("RuntimeClass", Some(runtime_class::mutate), Some(runtime_class::validate)),
    plugin("StorageObjectInUseProtection", Some(storage::protect), None),
    plugin("DefaultStorageClass", Some(storage::default_class), None),
    plugin("PersistentVolumeClaimResize", None, Some(storage::resize)),
    plugin("DefaultIngressClass", Some(storage::default_ingress_class), None),
    plugin("PodResizeValidator", None, Some(pod_resize::validate)),
];

/// Runs every mutating plugin.
pub fn mutate(request: &Request, view: &dyn View, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    PLUGINS.iter().filter_map(|p| p.mutate).try_for_each(|mutate| mutate(request, view, new, old))
}

/// Runs every validating plugin.
pub fn validate(request: &Request, view: &dyn View, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    PLUGINS.iter().filter_map(|p| p.validate).try_for_each(|validate| validate(request, view, new, old))
}

/// The containers and init containers of a pod, to be changed.
fn containers_mut(pod: &mut Value) -> impl Iterator<Item = &mut Value> {
    let mut lists: Vec<&mut Vec<Value>> = Vec::new();
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        for (name, list) in spec.iter_mut() {
            if matches!(name.as_str(), "containers" | "initContainers") {
                lists.extend(list.as_array_mut());
            }
        }
    }
    lists.into_iter().flatten()
}

fn decode<T: serde::de::DeserializeOwned>(request: &Request, value: &Value) -> Result<T, Status> {
    T::deserialize(value).map_err(|error| Status::bad_request(format!("{} is not as its type: {error}", request.kind)))
}

#[cfg(test)]
mod tests;
