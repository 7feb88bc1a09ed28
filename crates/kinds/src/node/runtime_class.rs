//! `RuntimeClass` (node.k8s.io/v1): a named way to run a pod's containers.

use crate::kind::{Declaration, Kind, Scope};

pub static RUNTIME_CLASS: Kind = Declaration {
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    group: "node.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.node.v1.RuntimeClass",
    create_on_update: true,
    ..Declaration::NEW
}
.build();
