//! `FlowSchema` (flowcontrol.apiserver.k8s.io/v1): which requests belong to which priority level.

use crate::kind::{Declaration, Generation, Kind, Scope, Subresource};

pub static FLOW_SCHEMA: Kind = Declaration {
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    group: "flowcontrol.apiserver.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.flowcontrol.v1.FlowSchema",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
