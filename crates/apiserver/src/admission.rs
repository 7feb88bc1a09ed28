//! Where admission plugins are asked: mutating ones before validation, validating ones after, quota last.

use std::collections::BTreeMap;
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
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authz;
use crate::context::Cx;
use crate::hooks::{Asked, Rounds};
use crate::query::DeleteOptions;
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

/// What a request has been charged for in quotas, by quota; to be given back when its write does not come about.
#[derive(Default)]
pub struct Charged(Vec<(String, quota::Usage)>);

/// Charges the quotas of a namespace for a new object, or for the growth of a changed one: checked and taken in one step.
/// `kubernetes/apiserver pkg/admission/plugin/resourcequota/controller.go: checkQuotas`.
pub async fn charge(
    cx: &Cx,
    operation: Operation,
    new: &Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Charged, Status> {
    let mut charged = Charged::default();
    if !cx.kind.namespaced() || view(cx).quotas(&cx.info.namespace).is_empty() {
        return Ok(charged);
    }
    let _one_by_one = cx.server.quotas.lock().await;
    match charge_all(cx, operation, new, old, dry_run, &mut charged).await {
        Ok(()) => Ok(charged),
        Err(status) => {
            refund(cx, charged).await;
            Err(status)
        }
    }
}

async fn charge_all(
    cx: &Cx,
    operation: Operation,
    new: &Value,
    old: Option<&Value>,
    dry_run: bool,
    charged: &mut Charged,
) -> Result<(), Status> {
    let name = object::name(new);
    for _ in 0..QUOTA_ATTEMPTS {
        catch_up(cx).await?;
        let mut charges = quota::admit(&request(cx, operation, name), &view(cx), new, old, cx.now)?;
        charges.retain(|charge| !charged.0.iter().any(|(done, _)| charge.quota.metadata.name.as_ref() == Some(done)));
        if dry_run {
            return Ok(());
        }
        let mut all = true;
        for charge in charges {
            let quota = charge.quota.metadata.name.clone().unwrap_or_default();
            let seen = charge.quota.metadata.resource_version.as_deref().unwrap_or_default();
            if set_used(cx, &quota, |stored| (object::resource_version(stored) == seen).then_some(charge.used)).await? {
                charged.0.push((quota, charge.added));
            } else {
                all = false;
            }
        }
        if all {
            return Ok(());
        }
    }
    Err(Status::conflict(&cx.resource(), name, "the usage of a resource quota could not be updated"))
}

/// Gives back what was charged. The controller counts again in any case, so a failure costs no more than time.
pub async fn refund(cx: &Cx, charged: Charged) {
    for (quota, added) in charged.0 {
        for _ in 0..QUOTA_ATTEMPTS {
            let less = |stored: &Value| {
                let used = stored
                    .pointer("/status/used")
                    .and_then(|used| Some(quota::amounts(Some(&BTreeMap::deserialize(used).ok()?))));
                Some(quota::minus(&used.unwrap_or_default(), &added))
            };
            match set_used(cx, &quota, less).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(status) => {
                    tracing::warn!(%quota, error = %status.message, "a quota's charge was not given back");
                    break;
                }
            }
        }
    }
}

/// Writes what is used of a quota as `make` says, if it says anything; false when somebody else was first. A quota that
/// is gone has nothing to write.
async fn set_used(cx: &Cx, name: &str, make: impl FnOnce(&Value) -> Option<quota::Usage>) -> Result<bool, Status> {
    let Some(kind) = kinds::by_resource("", "v1", "resourcequotas") else { return Ok(true) };
    let namespace = &cx.info.namespace;
    let Some(mut stored) = cx.server.registry.get(kind, namespace, name).await? else { return Ok(true) };
    let Some(used) = make(&stored.value) else { return Ok(false) };
    for (resource, amount) in used {
        object::put(&mut stored.value, &["status", "used", &resource], json!(amount.to_string()));
    }
    let written = cx.server.registry.update(kind, &kind.key(namespace, name), &stored.value, stored.revision).await?;
    Ok(written.is_some())
}
