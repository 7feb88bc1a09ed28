//! `LimitRange` (v1): bounds and defaults of resources within a namespace.

use crate::kind::{Declaration, Kind, Str};

pub static LIMIT_RANGE: Kind = Declaration {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short: &[Str::Borrowed("limits")],
    schema: "io.k8s.api.core.v1.LimitRange",
    unconditional_update: true,
    create_on_update: true,
    ..Declaration::NEW
}
.build();
