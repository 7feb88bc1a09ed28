//! `PriorityLevelConfiguration` (flowcontrol.apiserver.k8s.io/v1): the share of the API server a class of requests gets.

use crate::kind::{Declaration, Generation, Kind, Scope, Subresource};

pub static PRIORITY_LEVEL_CONFIGURATION: Kind = Declaration {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
