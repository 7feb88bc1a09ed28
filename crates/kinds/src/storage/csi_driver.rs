//! `CSIDriver` (storage.k8s.io/v1): what a volume driver can do.

use crate::kind::{Declaration, Generation, Kind, Scope};

pub static CSI_DRIVER: Kind = Declaration {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.CSIDriver",
    generation: Generation::OfSpec,
    ..Declaration::NEW
}
.build();
