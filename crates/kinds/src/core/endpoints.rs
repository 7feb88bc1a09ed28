//! `Endpoints` (v1): the addresses behind a Service, in one object.

use crate::kind::{Declaration, Kind, Str};

pub static ENDPOINTS: Kind = Declaration {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short: &[Str::Borrowed("ep")],
    schema: "io.k8s.api.core.v1.Endpoints",
    storage_prefix: "services/endpoints",
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
