//! `EndpointSlice` (discovery.k8s.io/v1): a slice of the addresses behind a Service.

use crate::kind::{Declaration, Generation, Kind};

pub static ENDPOINT_SLICE: Kind = Declaration {
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    group: "discovery.k8s.io",
    schema: "io.k8s.api.discovery.v1.EndpointSlice",
    generation: Generation::OfAll,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
