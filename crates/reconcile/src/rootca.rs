//! The root-CA publisher: `kube-root-ca.crt` in each namespace, by which pods know the API server.
//!
//! kubernetes/kubernetes pkg/controller/certificates/rootcacertpublisher: decides its name, content and annotation.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cache::{Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::plan::{Action, Plan};
use crate::serviceaccount::{living, namespace_of};

const NAME: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                    such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                    distributions of Kubernetes clusters.";

pub static ROOTCA: Controller = Controller {
    name: "root-ca-certificate-publisher",
    account: "root-ca-cert-publisher",
    watches: &[(Of::Namespace, own), (Of::ConfigMap, namespace_of)],
    workers: 1,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    namespace: String,
    bundle: String,
    published: Option<Arc<ConfigMap>>,
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    living(cx, key)?;
    let published = cx.cache.root_cas.get(&key.name, NAME);
    Some(View { namespace: key.name.clone(), bundle: cx.settings.root_ca.clone()?, published })
}

fn plan(view: &View) -> Plan {
    let mut plan = Plan::default();
    let data = BTreeMap::from([("ca.crt".to_string(), view.bundle.clone())]);
    let Some(published) = &view.published else {
        let bundle = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.into()),
                namespace: Some(view.namespace.clone()),
                annotations: Some(BTreeMap::from([(DESCRIPTION.to_string(), TEXT.to_string())])),
                ..Default::default()
            },
            data: Some(data),
            ..Default::default()
        };
        plan.actions.push(Action::create(&bundle).accept_existing());
        return plan;
    };
    let annotated = published.metadata.annotations.as_ref().and_then(|a| a.get(DESCRIPTION)).is_some_and(|d| d == TEXT);
    if published.data.as_ref() != Some(&data) || !annotated {
        let mut right = published.as_ref().clone();
        right.data = Some(data);
        right.metadata.annotations.get_or_insert_default().insert(DESCRIPTION.into(), TEXT.into());
        plan.actions.push(Action::update(&right));
    }
    plan
}
