//! `ClusterRoleBinding` (rbac.authorization.k8s.io/v1): grants a ClusterRole everywhere.

use crate::kind::{Declaration, Kind, NameRule, Scope};

pub static CLUSTER_ROLE_BINDING: Kind = Declaration {
    kind: "ClusterRoleBinding",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    group: "rbac.authorization.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
    name_rule: NameRule::PathSegment,
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
