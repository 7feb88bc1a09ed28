//! `Binding` (v1): puts a pod on a node; nothing is stored.

use crate::kind::{Declaration, Kind, NameRule, Verbs};

pub static BINDING: Kind = Declaration {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    schema: "io.k8s.api.core.v1.Binding",
    verbs: Verbs::CREATE,
    name_rule: NameRule::Any,
    ..Declaration::NEW
}
.build();
