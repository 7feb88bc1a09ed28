//! Token Secrets go with the ServiceAccount they are for.
//!
//! kubernetes/kubernetes pkg/controller/serviceaccount/tokens_controller.go: decides when a token is of no use.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Plan};

const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

pub static TOKENS: Controller = Controller {
    name: "tokens-controller",
    account: "",
    watches: &[(Of::Secret, own), (Of::ServiceAccount, of_account)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    secret: Arc<Secret>,
    account: Option<Arc<ServiceAccount>>,
}

fn of_account(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(account) = change.meta().filter(|_| change.new.is_none()) else { return };
    let secrets = cache.token_secrets.within(meta::namespace(account));
    let of = |s: &&Arc<Secret>| meta::annotation(&s.metadata, NAME) == account.name.as_deref();
    keys.extend(secrets.iter().filter(of).map(|s| Key::of(&s.metadata)));
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let secret = cx.cache.token_secrets.at(key)?;
    let name = meta::annotation(&secret.metadata, NAME)?;
    let account = cx.cache.service_accounts.get(&key.namespace, name);
    Some(View { secret, account })
}

fn plan(view: &View) -> Plan {
    let wanted = meta::annotation(&view.secret.metadata, UID);
    let same = |account: &Arc<ServiceAccount>| wanted.is_none_or(|uid| uid == meta::uid(&account.metadata));
    if view.account.as_ref().is_some_and(same) || meta::deleting(&view.secret.metadata) {
        return Plan::default();
    }
    let revision = view.secret.metadata.resource_version.clone();
    Plan { actions: vec![Action::delete(view.secret.as_ref()).at_revision(revision)], ..Plan::default() }
}
