//! `Service` (v1): one address and name before a set of pods.

use crate::kind::{Declaration, Kind, NameRule, Str, Subresource};

pub static SERVICE: Kind = Declaration {
    kind: "Service",
    plural: "services",
    singular: "service",
    short: &[Str::Borrowed("svc")],
    categories: &[Str::Borrowed("all")],
    schema: "io.k8s.api.core.v1.Service",
    subresources: &[Subresource::Proxy, Subresource::Status],
    name_rule: NameRule::Label,
    fields: &[Str::Borrowed("spec.clusterIP"), Str::Borrowed("spec.type")],
    storage_prefix: "services/specs",
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
