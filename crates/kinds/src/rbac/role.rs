//! `Role` (rbac.authorization.k8s.io/v1): rules that may be granted in one namespace.

use super::validate::rules;
use crate::kind::{Declaration, Kind, NameRule};
use crate::validate::At;
use machinery::field::FieldErrors;
use serde_json::Value;

pub static ROLE: Kind = Declaration {
    kind: "Role",
    plural: "roles",
    singular: "role",
    group: "rbac.authorization.k8s.io",
    schema: "io.k8s.api.rbac.v1.Role",
    name_rule: NameRule::PathSegment,
    unconditional_update: true,
    create_on_update: true,
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(role: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(role);
    rules(&at.field("rules"), true, errors);
}
