//! `ComponentStatus` (v1): the old health listing of control plane components; read only, never stored.

use crate::kind::{Declaration, Kind, Scope, Str, Verbs};

pub static COMPONENT_STATUS: Kind = Declaration {
    kind: "ComponentStatus",
    plural: "componentstatuses",
    singular: "componentstatus",
    short: &[Str::Borrowed("cs")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.ComponentStatus",
    verbs: Verbs::GET.and(Verbs::LIST),
    ..Declaration::NEW
}
.build();
