//! `StatefulSet` (apps/v1): pods with stable names and storage.

use crate::kind::{Declaration, Generation, Kind, NameRule, ScalePaths, Str, Subresource};

pub static STATEFUL_SET: Kind = Declaration {
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short: &[Str::Borrowed("sts")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.StatefulSet",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpec,
    name_rule: NameRule::Subdomain,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
