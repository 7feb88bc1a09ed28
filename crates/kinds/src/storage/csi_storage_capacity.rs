//! `CSIStorageCapacity` (storage.k8s.io/v1): how much a storage class can still provision in a place.

use crate::kind::{Declaration, Kind};

pub static CSI_STORAGE_CAPACITY: Kind = Declaration {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    group: "storage.k8s.io",
    schema: "io.k8s.api.storage.v1.CSIStorageCapacity",
    ..Declaration::NEW
}
.build();
