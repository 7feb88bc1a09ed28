//! `ClusterRole` aggregation: a role with an aggregation rule has the rules of every role it selects.
//!
//! kubernetes/kubernetes pkg/controller/clusterroleaggregation: decides the order.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::cache::{Cache, Change, Key, Of};
use crate::controller::{Controller, Cx};
use crate::plan::{Action, Plan};
use crate::selector;

pub static CLUSTERROLEAGGREGATION: Controller = Controller {
    name: "clusterrole-aggregation-controller",
    account: "clusterrole-aggregation-controller",
    watches: &[(Of::ClusterRole, every)],
    workers: 5,
    sync: |cx, key| gather(cx, key).map(|view| plan(&view)).unwrap_or_default(),
};

struct View {
    role: Arc<ClusterRole>,
    /// By name.
    all: Vec<Arc<ClusterRole>>,
}

/// Any role may be part of any that aggregates.
fn every(cache: &Cache, _: &Change, keys: &mut Vec<Key>) {
    let roles = cache.cluster_roles.all();
    keys.extend(roles.iter().filter(|r| r.aggregation_rule.is_some()).map(|r| Key::of(&r.metadata)));
}

fn gather(cx: &Cx<'_>, key: &Key) -> Option<View> {
    let role = cx.cache.cluster_roles.at(key).filter(|r| r.aggregation_rule.is_some())?;
    Some(View { role, all: cx.cache.cluster_roles.all() })
}

fn plan(view: &View) -> Plan {
    let role = view.role.as_ref();
    let selectors = role.aggregation_rule.as_ref().and_then(|r| r.cluster_role_selectors.clone()).unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for wanted in &selectors {
        for other in view.all.iter().filter(|o| o.metadata.name != role.metadata.name) {
            if selector::matches(Some(wanted), &other.metadata.labels) {
                for rule in other.rules.iter().flatten() {
                    if !rules.contains(rule) {
                        rules.push(rule.clone());
                    }
                }
            }
        }
    }
    if role.rules.as_deref().unwrap_or(&[]) == rules {
        return Plan::default();
    }
    let revision = &role.metadata.resource_version;
    let patch = json!({"metadata": {"resourceVersion": revision}, "rules": rules});
    Plan { actions: vec![Action::patch(role, patch)], ..Plan::default() }
}
