//! `ConfigMap` (v1): plain configuration for pods.

use crate::kind::{Declaration, Kind, Str};

pub static CONFIG_MAP: Kind = Declaration {
    kind: "ConfigMap",
    plural: "configmaps",
    singular: "configmap",
    short: &[Str::Borrowed("cm")],
    schema: "io.k8s.api.core.v1.ConfigMap",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
