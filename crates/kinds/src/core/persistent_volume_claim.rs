//! `PersistentVolumeClaim` (v1): a pod's claim of storage.

use crate::kind::{Declaration, Kind, Str, Subresource};

pub static PERSISTENT_VOLUME_CLAIM: Kind = Declaration {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short: &[Str::Borrowed("pvc")],
    schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
    subresources: &[Subresource::Status],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
