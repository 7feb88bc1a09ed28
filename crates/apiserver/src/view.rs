//! The caches, as the views that authorization decides on.

use std::sync::Arc;

use admit::Attributes;
use admit::escalation::GrantView;
use admit::node::NodeView;
use admit::rbac::RoleView;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;

use crate::cache::Cache;
use crate::server::Inner;

/// A view of the caches as they stand.
pub struct CacheView<'a> {
    server: &'a Inner,
}

impl<'a> CacheView<'a> {
    pub fn new(server: &'a Inner) -> CacheView<'a> {
        CacheView { server }
    }

    fn cache(&self, group: &str, plural: &str) -> Option<Arc<Cache>> {
        let catalog = self.server.catalog.load();
        self.server.caches.of(catalog.find(group, "v1", plural)?)
    }

    /// One object, typed.
    pub fn get<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        group: &str,
        plural: &str,
        key: &str,
    ) -> Option<Arc<T>> {
        self.cache(group, plural)?.get(key)?.typed()
    }

    /// The objects of a namespace (of all, when it is empty), typed.
    pub fn list<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
    ) -> Vec<Arc<T>> {
        let Some(cache) = self.cache(group, plural) else { return Vec::new() };
        cache.list(namespace).0.iter().filter_map(|object| object.typed()).collect()
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";

impl RoleView for CacheView<'_> {
    fn cluster_role(&self, name: &str) -> Option<Arc<ClusterRole>> {
        self.get(RBAC, "clusterroles", name)
    }

    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Role>> {
        self.get(RBAC, "roles", &format!("{namespace}/{name}"))
    }

    fn cluster_role_bindings(&self) -> Vec<Arc<ClusterRoleBinding>> {
        self.list(RBAC, "clusterrolebindings", "")
    }

    fn role_bindings(&self, namespace: &str) -> Vec<Arc<RoleBinding>> {
        if namespace.is_empty() { Vec::new() } else { self.list(RBAC, "rolebindings", namespace) }
    }
}

impl GrantView for CacheView<'_> {
    fn allowed(&self, request: &Attributes) -> bool {
        crate::authz::allowed(self.server, request)
    }
}

impl NodeView for CacheView<'_> {
    fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
        let Some(cache) = self.cache("", "pods") else { return Vec::new() };
        let on_node = |object: &&Arc<crate::cache::Object>| {
            object.fields.iter().any(|(field, value)| field == "spec.nodeName" && value == node)
        };
        cache.list("").0.iter().filter(on_node).filter_map(|object| object.typed()).collect()
    }

    fn volume_of_claim(&self, namespace: &str, claim: &str) -> Option<String> {
        let claim: Arc<PersistentVolumeClaim> =
            self.get("", "persistentvolumeclaims", &format!("{namespace}/{claim}"))?;
        claim.spec.as_ref()?.volume_name.clone()
    }

    /// `kubernetes/kubernetes pkg/api/v1/persistentvolume/util.go: VisitPVSecretNames`, what is kubeletVisible of it.
    fn secrets_of_volume(&self, volume: &str) -> Vec<(String, String)> {
        let Some(volume) = self.get::<PersistentVolume>("", "persistentvolumes", volume) else { return Vec::new() };
        let Some(spec) = volume.spec.as_ref() else { return Vec::new() };
        let csi = spec.csi.as_ref();
        let references = [
            csi.and_then(|csi| csi.node_publish_secret_ref.as_ref()),
            csi.and_then(|csi| csi.node_stage_secret_ref.as_ref()),
            csi.and_then(|csi| csi.node_expand_secret_ref.as_ref()),
            spec.cephfs.as_ref().and_then(|source| source.secret_ref.as_ref()),
            spec.cinder.as_ref().and_then(|source| source.secret_ref.as_ref()),
            spec.flex_volume.as_ref().and_then(|source| source.secret_ref.as_ref()),
            spec.rbd.as_ref().and_then(|source| source.secret_ref.as_ref()),
            spec.scale_io.as_ref().map(|source| &source.secret_ref),
            spec.iscsi.as_ref().and_then(|source| source.secret_ref.as_ref()),
        ];
        // A secret without a namespace is the claim's.
        let of_claim = spec.claim_ref.as_ref().and_then(|claim| claim.namespace.clone()).unwrap_or_default();
        let within = |given: Option<&String>| given.filter(|ns| !ns.is_empty()).unwrap_or(&of_claim).clone();
        let mut secrets: Vec<(String, String)> = references
            .into_iter()
            .flatten()
            .filter_map(|reference| Some((within(reference.namespace.as_ref()), reference.name.clone()?)))
            .collect();
        let azure = spec.azure_file.as_ref();
        secrets.extend(azure.map(|file| (within(file.secret_namespace.as_ref()), file.secret_name.clone())));
        secrets
    }

    fn node_of(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<String> {
        let key = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
        let object = self.cache(group, resource)?.get(&key)?.value();
        object.pointer("/spec/nodeName").and_then(serde_json::Value::as_str).map(str::to_owned)
    }
}
