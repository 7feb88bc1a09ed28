//! `Namespace` (v1): a scope for names, which deletes all within it when it is deleted.

use crate::kind::{Declaration, Kind, NameRule, Scope, Str, Subresource, Verbs};

pub static NAMESPACE: Kind = Declaration {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short: &[Str::Borrowed("ns")],
    scope: Scope::Cluster,
    schema: "io.k8s.api.core.v1.Namespace",
    verbs: Verbs::ALL.without(Verbs::DELETE_COLLECTION),
    subresources: &[Subresource::Finalize, Subresource::Status],
    name_rule: NameRule::Label,
    fields: &[Str::Borrowed("status.phase")],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
