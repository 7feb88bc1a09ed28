//! `ClusterRole` (rbac.authorization.k8s.io/v1): rules that may be granted in the whole cluster or in any namespace.

use super::validate::rules;
use crate::kind::{Declaration, Kind, NameRule, Scope};
use crate::validate::selector::{label_selector, selects};
use crate::validate::{At, shown};
use machinery::field::{FieldError, FieldErrors};
use serde_json::Value;

pub static CLUSTER_ROLE: Kind = Declaration {
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    group: "rbac.authorization.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.rbac.v1.ClusterRole",
    name_rule: NameRule::PathSegment,
    unconditional_update: true,
    create_on_update: true,
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(role: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(role);
    rules(&at.field("rules"), false, errors);
    if let Some(rule) = at.set("aggregationRule") {
        let selectors = rule.field("clusterRoleSelectors");
        if selectors.is_empty() {
            selectors.required(errors, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for selector in selectors.items() {
            label_selector(&selector, errors);
            if selects(&selector, &Value::Null).is_none() {
                errors.push(FieldError::invalid(&selector.path, shown("null"), "invalid label selector."));
            }
        }
    }
}
