//! `Node` (v1): a machine that runs pods.

use crate::kind::{Declaration, Kind, Scope, Str, Subresource};

pub static NODE: Kind = Declaration {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short: &[Str::Borrowed("no")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.Node",
    subresources: &[Subresource::Proxy, Subresource::Status],
    fields: &[Str::Borrowed("spec.unschedulable")],
    storage_prefix: "minions",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
