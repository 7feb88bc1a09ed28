//! `CSIStorageCapacity` (storage.k8s.io/v1): how much a storage class can still provision in a place.

use crate::columns::{column, name, named, text, text_or};
use crate::kind::{BuiltInColumns, Declaration, Kind};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static CSI_STORAGE_CAPACITY: Kind = Declaration {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    group: "storage.k8s.io",
    schema: "io.k8s.api.storage.v1.CSIStorageCapacity",
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("StorageClassName", "string"), column("Capacity", "string")],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/storageClassName")), text_or(o, "/capacity", "<unset>")]
}
