//! Token Secrets: filled with a ServiceAccount's token, and gone with the account they are for.
//!
//! kubernetes/kubernetes pkg/controller/serviceaccount/tokens_controller.go: decides what such a Secret holds and when
//! it is of no use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx, own};
use crate::meta;
use crate::plan::{Action, Event, Plan};
use crate::ports::SecretToken;
use crate::settings::Settings;

const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// An account made just before its Secret may be seen after it.
const ACCOUNT_SEEN_WITHIN: Duration = Duration::from_secs(5);

pub static TOKENS: Controller = Controller {
    name: "tokens-controller",
    account: "",
    watches: &[(Of::Secret, own), (Of::ServiceAccount, of_account)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view, cx.settings, cx.now)).unwrap_or_default(),
};

struct View {
    secret: Arc<Secret>,
    account: Option<Arc<ServiceAccount>>,
}

/// An account that comes or goes concerns the Secrets that name it.
fn of_account(cache: &Cache, change: &Change, keys: &mut Vec<Key>) {
    let Some(account) = change.meta().filter(|_| change.old.is_none() || change.new.is_none()) else { return };
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

fn plan(view: &View, settings: &Settings, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let secret = view.secret.as_ref();
    if meta::deleting(&secret.metadata) {
        return plan;
    }
    let wanted = meta::annotation(&secret.metadata, UID);
    let same = |account: &&Arc<ServiceAccount>| wanted.is_none_or(|uid| uid == meta::uid(&account.metadata));
    if let Some(account) = view.account.as_ref().filter(same) {
        fill(secret, account, settings, &mut plan);
        return plan;
    }
    let age = Duration::try_from(now.duration_since(meta::created(&secret.metadata))).unwrap_or(Duration::ZERO);
    if let Some(left) = ACCOUNT_SEEN_WITHIN.checked_sub(age).filter(|left| !left.is_zero()) {
        plan.requeue(left);
        return plan;
    }
    let revision = secret.metadata.resource_version.clone();
    plan.actions.push(Action::delete(secret).at_revision(revision));
    plan
}

/// Adds what the Secret lacks of token, authority and namespace.
fn fill(secret: &Secret, account: &ServiceAccount, settings: &Settings, plan: &mut Plan) {
    let empty = BTreeMap::new();
    let had = secret.data.as_ref().unwrap_or(&empty);
    let lacks = |name: &str| had.get(name).is_none_or(|bytes| bytes.0.is_empty());
    let mut data = had.clone();
    if let Some(authority) = &settings.root_ca {
        data.insert("ca.crt".into(), ByteString(authority.clone().into_bytes()));
    }
    if lacks("namespace") {
        data.insert("namespace".into(), ByteString(meta::namespace(&secret.metadata).as_bytes().to_vec()));
    }
    if let Some(signer) = settings.token_signer.as_ref().filter(|_| lacks("token")) {
        let token = SecretToken {
            namespace: meta::namespace(&secret.metadata).to_string(),
            account: meta::name(&account.metadata).to_string(),
            account_uid: meta::uid(&account.metadata).to_string(),
            secret: meta::name(&secret.metadata).to_string(),
        };
        match signer.sign(&token) {
            Ok(token) => {
                data.insert("token".into(), ByteString(token.into_bytes()));
            }
            Err(error) => plan.events.push(Event::warning(secret, "FailedToken", format!("no token made: {error}"))),
        }
    }
    if data == *had {
        return;
    }
    plan.actions.push(Action::changed(secret, |s| {
        s.data = Some(data);
        let annotations = s.metadata.annotations.get_or_insert_default();
        annotations.insert(NAME.into(), meta::name(&account.metadata).into());
        annotations.insert(UID.into(), meta::uid(&account.metadata).into());
    }));
}
