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
use tokio::sync::MutexGuard;

use crate::authz;
use crate::context::Cx;
use crate::hooks::{Asked, Rounds};
use crate::query::DeleteOptions;
use crate::registry::{self, Replacement};
use crate::view::CacheView;

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

/// Lets the mutating plugins change the object, then the policies and webhooks. When one of those did, everybody has
/// another look.
pub async fn mutate(cx: &Cx, operation: Operation, new: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    catch_up(cx).await?;
    let mut rounds = Rounds::default();
    loop {
        let name = object::name(new).to_owned();
        admit::admission::mutate(&request(cx, operation, &name), &view(cx), new, old)?;
        let asked = Asked::new(cx, operation);
        asked.mutate(&name, new, old, &mut rounds).await?;
        if !rounds.another() {
            return Ok(());
        }
    }
}

/// 403 when the object would grant its writer, or somebody else, what the writer lacks.
pub fn escalation(cx: &Cx, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let (group, resource) = (cx.kind.group.as_ref(), cx.kind.names.plural.as_ref());
    let grant = Grant { user: &cx.user, group, resource, namespace: &cx.info.namespace, name: &cx.info.name };
    admit::escalation::check(&cx.server.view(), &grant, new, old)
}

/// Asks the validating plugins, then the policies and webhooks.
pub async fn validate(cx: &Cx, operation: Operation, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let name = new.or(old).map(object::name).unwrap_or_default();
    admit::admission::validate(&request(cx, operation, name), &view(cx), new, old)?;
    Asked::new(cx, operation).validate(name, new, old).await
}

/// Asks everybody about the end of an object. What is deleted by way of a subresource was asked about
/// there.
pub async fn delete(cx: &Cx, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let name = object::name(old);
    let direct = cx.info.subresource.is_empty();
    let asked = Asked { options: options.to_json(), dry_run: options.dry_run, ..Asked::new(cx, Operation::Delete) };
    if direct {
        catch_up(cx).await?;
        asked.mutate_none(name, Some(old)).await?;
    }
    admit::admission::validate(&request(cx, Operation::Delete, name), &view(cx), None, Some(old))?;
    if direct { asked.validate(name, None, Some(old)).await } else { Ok(()) }
}

/// Asks the policies and webhooks alone, of an object that is never stored: a binding, the options of a connection.
pub async fn ask(cx: &Cx, operation: Operation, object: &mut Value) -> Result<(), Status> {
    catch_up(cx).await?;
    let asked = Asked::new(cx, operation);
    let name = cx.info.name.as_str();
    let mut rounds = Rounds::default();
    asked.mutate(name, object, None, &mut rounds).await?;
    asked.validate(name, Some(object), None).await
}

/// What a write takes from the quotas of its namespace: to be stored with it, so that either both are there or neither is.
#[derive(Default)]
pub struct Charges<'a> {
    pub quotas: Vec<Replacement>,
    /// Writes that are charged go one by one, so that they do not overtake one another again and again.
    _turn: Option<MutexGuard<'a, ()>>,
}

/// What is to be charged for a new object, or for the growth of a changed one; a refusal when there is too little left.
/// `kubernetes/apiserver pkg/admission/plugin/resourcequota/controller.go: checkQuotas`.
pub async fn charge<'a>(
    cx: &'a Cx,
    operation: Operation,
    new: &Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Charges<'a>, Status> {
    if !cx.kind.namespaced() || view(cx).quotas(&cx.info.namespace).is_empty() {
        return Ok(Charges::default());
    }
    let turn = cx.server.quotas.lock().await;
    catch_up(cx).await?;
    let charges = quota::admit(&request(cx, operation, object::name(new)), &view(cx), new, old, cx.now)?;
    let mut quotas = Vec::new();
    if !dry_run {
        for charge in &charges {
            quotas.extend(charged(cx, charge).await?);
        }
    }
    Ok(if quotas.is_empty() { Charges::default() } else { Charges { quotas, _turn: Some(turn) } })
}

/// A quota with its charge; `None` for one that is gone.
async fn charged(cx: &Cx, charge: &quota::Charge) -> Result<Option<Replacement>, Status> {
    let Some(kind) = kinds::by_resource("", "v1", "resourcequotas") else { return Ok(None) };
    let (namespace, meta) = (&cx.info.namespace, &charge.quota.metadata);
    let name = meta.name.as_deref().unwrap_or_default();
    let Some(mut stored) = cx.server.registry.get(kind, namespace, name).await? else { return Ok(None) };
    for (resource, amount) in &charge.used {
        object::put(&mut stored.value, &["status", "used", resource], json!(amount.to_string()));
    }
    // The version that was counted with: another one by now is noticed when this is stored.
    let revision = meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default();
    let encoded = registry::encode(kind, &stored.value)?;
    Ok(Some(Replacement { key: kind.key(namespace, name), revision, encoded }))
}
