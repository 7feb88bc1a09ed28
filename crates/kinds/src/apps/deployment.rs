//! `Deployment` (apps/v1): a ReplicaSet for each revision of its pod template, exchanged at a bounded rate.

use crate::kind::{Declaration, Generation, Kind, ScalePaths, Str, Subresource};

pub static DEPLOYMENT: Kind = Declaration {
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short: &[Str::Borrowed("deploy")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.Deployment",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpecAndAnnotations,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
