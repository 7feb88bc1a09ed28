//! `ClusterRole` (rbac.authorization.k8s.io/v1): rules that may be granted in the whole cluster or in any namespace.

use crate::kind::{Declaration, Kind, NameRule, Scope};

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
    ..Declaration::NEW
}
.build();
