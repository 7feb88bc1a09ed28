//! `RoleBinding` (rbac.authorization.k8s.io/v1): grants a Role or ClusterRole in one namespace.

use crate::columns::{age, column, column_of, name, named, subjects, text, wide};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static ROLE_BINDING: Kind = Declaration {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    group: "rbac.authorization.k8s.io",
    schema: "io.k8s.api.rbac.v1.RoleBinding",
    name_rule: NameRule::PathSegment,
    unconditional_update: true,
    create_on_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(binding: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    super::validate::binding(binding, old, true, errors);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Role", "string", "io.k8s.api.rbac.v1beta1.ClusterRoleBinding", "roleRef"),
        column("Age", "string"),
        wide("Users", "string"),
        wide("Groups", "string"),
        wide("ServiceAccounts", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name"))),
        age(o, now),
        subjects(o, "User"),
        subjects(o, "Group"),
        subjects(o, "ServiceAccount"),
    ]
}
