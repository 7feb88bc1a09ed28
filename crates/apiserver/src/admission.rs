//! Where admission plugins are asked: mutating ones before validation, validating ones after, quota last.

use std::sync::Arc;

pub use admit::admission::Operation;
use admit::admission::{Request, View, quota};
use admit::escalation::Grant;
use admit::{Attributes, UserInfo};
use k8s_openapi::api::core::v1::{
    LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};
use machinery::object;
use machinery::status::Status;
use serde_json::{Value, json};

use crate::authz;
use crate::context::Cx;
use crate::view::CacheView;

/// Tries to count an object in its quotas before giving up.
const QUOTA_ATTEMPTS: usize = 10;

/// The caches as admission sees them, on behalf of one user.
struct AdmissionView<'a> {
    caches: CacheView<'a>,
    cx: &'a Cx,
}

impl View for AdmissionView<'_> {
    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.caches.get("", "namespaces", name)
    }

    fn service_account(&self, namespace: &str, name: &str) -> Option<Arc<ServiceAccount>> {
        self.caches.get("", "serviceaccounts", &format!("{namespace}/{name}"))
    }

    fn limit_ranges(&self, namespace: &str) -> Vec<Arc<LimitRange>> {
        self.caches.list("", "limitranges", namespace)
    }

    fn quotas(&self, namespace: &str) -> Vec<Arc<ResourceQuota>> {
        self.caches.list("", "resourcequotas", namespace)
    }

    fn priority_classes(&self) -> Vec<Arc<PriorityClass>> {
        self.caches.list("scheduling.k8s.io", "priorityclasses", "")
    }

    fn runtime_class(&self, name: &str) -> Option<Arc<RuntimeClass>> {
        self.caches.get("node.k8s.io", "runtimeclasses", name)
    }

    fn storage_classes(&self) -> Vec<Arc<StorageClass>> {
        self.caches.list("storage.k8s.io", "storageclasses", "")
    }

    fn ingress_classes(&self) -> Vec<Arc<IngressClass>> {
        self.caches.list("networking.k8s.io", "ingressclasses", "")
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.caches.get("", "pods", &format!("{namespace}/{name}"))
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.caches.get("", "nodes", name)
    }

    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.caches.get("", "persistentvolumeclaims", &format!("{namespace}/{name}"))
    }

    fn csi_driver_of_claim(&self, namespace: &str, claim: &str) -> Option<String> {
        let volume = self.claim(namespace, claim)?.spec.as_ref()?.volume_name.clone()?;
        let volume = self.caches.get::<PersistentVolume>("", "persistentvolumes", &volume)?;
        volume.spec.as_ref()?.csi.as_ref().map(|csi| csi.driver.clone())
    }

    fn csi_audiences(&self, driver: &str) -> Vec<String> {
        let driver = self.caches.get::<CSIDriver>("storage.k8s.io", "csidrivers", driver);
        let requests = driver.iter().flat_map(|driver| driver.spec.token_requests.iter().flatten());
        requests.map(|request| request.audience.clone()).collect()
    }

    fn allowed(&self, verb: &str, group: &str, resource: &str, subresource: &str, namespace: &str, name: &str) -> bool {
        let user: &UserInfo = &self.cx.user;
        let attributes =
            Attributes { verb, group, version: "v1", resource, subresource, namespace, name, ..Attributes::of(user) };
        authz::allowed(&self.cx.server, &attributes)
    }
}

fn request<'a>(cx: &'a Cx, operation: Operation, name: &'a str) -> Request<'a> {
    Request {
        operation,
        group: &cx.kind.group,
        version: &cx.kind.version,
        kind: &cx.kind.names.kind,
        resource: &cx.kind.names.plural,
        subresource: &cx.info.subresource,
        namespace: &cx.info.namespace,
        name: if name.is_empty() { &cx.info.name } else { name },
        user: &cx.user,
    }
}

fn view(cx: &Cx) -> AdmissionView<'_> {
    AdmissionView { caches: cx.server.view(), cx }
}

/// Plugins see every write that was acknowledged before this request.
async fn catch_up(cx: &Cx) -> Result<(), Status> {
    cx.server.caches.wait_for(cx.server.registry.revision().await?).await
}

/// Lets the mutating plugins change the object.
pub async fn mutate(cx: &Cx, operation: Operation, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    catch_up(cx).await?;
    let name = object::name(new).to_owned();
    admit::admission::mutate(&request(cx, operation, &name), &view(cx), new, old)
}

/// 403 when the object would grant its writer, or somebody else, what the writer lacks.
pub fn escalation(cx: &Cx, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let (group, resource) = (cx.kind.group.as_ref(), cx.kind.names.plural.as_ref());
    let grant = Grant { user: &cx.user, group, resource, namespace: &cx.info.namespace, name: &cx.info.name };
    admit::escalation::check(&cx.server.view(), &grant, new, old)
}

/// Asks the validating plugins.
pub async fn validate(cx: &Cx, operation: Operation, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let name = new.or(old).map(object::name).unwrap_or_default();
    admit::admission::validate(&request(cx, operation, name), &view(cx), new, old)
}

/// Counts a new object, or the growth of a changed one, in the quotas of its namespace: checked and taken in one step.
/// `kubernetes/apiserver pkg/admission/plugin/resourcequota/controller.go: checkRequest`.
pub async fn count(
    cx: &Cx,
    operation: Operation,
    new: &Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<(), Status> {
    let Some(kind) = kinds::by_resource("", "v1", "resourcequotas") else { return Ok(()) };
    // A resize is the one change through a subresource that may take more.
    if !cx.kind.namespaced() || !matches!(cx.info.subresource.as_str(), "" | "resize") {
        return Ok(());
    }
    let name = object::name(new);
    for _ in 0..QUOTA_ATTEMPTS {
        let changed = quota::admit(&request(cx, operation, name), &view(cx), new, old)?;
        if dry_run || changed.is_empty() {
            return Ok(());
        }
        let mut all = true;
        for (quota, used) in changed {
            let used: serde_json::Map<String, Value> =
                used.into_iter().map(|(resource, amount)| (resource, json!(amount.to_string()))).collect();
            let quota_name = quota.metadata.name.clone().unwrap_or_default();
            let Some(mut stored) = cx.server.registry.get(kind, &cx.info.namespace, &quota_name).await? else {
                continue;
            };
            let seen = quota.metadata.resource_version.as_deref().unwrap_or_default();
            if object::resource_version(&stored.value) != seen {
                all = false;
                break;
            }
            for (resource, amount) in used {
                object::put(&mut stored.value, &["status", "used", &resource], amount);
            }
            let key = kind.key(&cx.info.namespace, &quota_name);
            if cx.server.registry.update(kind, &key, &stored.value, stored.revision).await?.is_none() {
                all = false;
                break;
            }
        }
        if all {
            return Ok(());
        }
        catch_up(cx).await?;
    }
    Err(Status::conflict(&crate::registry::group_resource(kind), name, "quota usage could not be counted"))
}
