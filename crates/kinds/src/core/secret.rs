//! `Secret` (v1): confidential data for pods.

use crate::kind::{Declaration, Kind, Str};

pub static SECRET: Kind = Declaration {
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    schema: "io.k8s.api.core.v1.Secret",
    fields: &[Str::Borrowed("type")],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
