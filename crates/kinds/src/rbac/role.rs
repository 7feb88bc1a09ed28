//! `Role` (rbac.authorization.k8s.io/v1): rules that may be granted in one namespace.

use crate::kind::{Declaration, Kind, NameRule};

pub static ROLE: Kind = Declaration {
    kind: "Role",
    plural: "roles",
    singular: "role",
    group: "rbac.authorization.k8s.io",
    schema: "io.k8s.api.rbac.v1.Role",
    name_rule: NameRule::PathSegment,
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
