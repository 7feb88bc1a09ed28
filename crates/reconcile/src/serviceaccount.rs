//! `ServiceAccount`: every namespace has one named `default`.
//!
//! kubernetes/kubernetes pkg/controller/serviceaccount/serviceaccounts_controller.go: decides when it is made again.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};

const NAME: &str = "default";

pub static SERVICEACCOUNT: Controller = Controller {
    name: "serviceaccount-controller",
    account: "service-account-controller",
    watches: &[(Of::Namespace, own), (Of::ServiceAccount, namespace_of)],
    workers: 1,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    namespace: String,
    exists: bool,
}

/// The changed object's namespace, as the key of a `Namespace`.
pub fn namespace_of(_: &Cache, change: &Change, keys: &mut Vec<Key>) {
    keys.extend(change.meta().map(|m| Key::new("", meta::namespace(m))));
}

/// The namespace, if things may still be made in it.
pub fn living(cx: &Cx<'_>, key: &Key) -> Option<std::sync::Arc<Namespace>> {
    let namespace = cx.cache.namespaces.at(key)?;
    let terminating = namespace.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Terminating"));
    (!terminating && !meta::deleting(&namespace.metadata)).then_some(namespace)
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    living(cx, key)?;
    let exists = cx.cache.service_accounts.get(&key.name, NAME).is_some();
    Some(View { namespace: key.name.clone(), exists })
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    if !view.exists {
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                namespace: Some(view.namespace.clone()),
                ..Default::default()
            },
            ..Default::default()
        };
        plan.actions.push(Action::create(&account).accept_existing());
    }
    plan
}
