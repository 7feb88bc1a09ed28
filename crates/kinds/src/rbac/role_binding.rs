//! `RoleBinding` (rbac.authorization.k8s.io/v1): grants a Role or ClusterRole in one namespace.

use crate::kind::{Declaration, Kind, NameRule};

pub static ROLE_BINDING: Kind = Declaration {
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    group: "rbac.authorization.k8s.io",
    schema: "io.k8s.api.rbac.v1.RoleBinding",
    name_rule: NameRule::PathSegment,
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
