//! `VolumeAttributesClass` (storage.k8s.io/v1): changeable attributes of volumes.

use crate::kind::{Declaration, Kind, Scope, Str};

pub static VOLUME_ATTRIBUTES_CLASS: Kind = Declaration {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short: &[Str::Borrowed("vac")],
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.VolumeAttributesClass",
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
