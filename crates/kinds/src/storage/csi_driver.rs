//! `CSIDriver` (storage.k8s.io/v1): what a volume driver can do.

use crate::columns::{age, column, flag_or, join, join_texts, list, name, named};
use crate::defaults::{nested, set_missing, set_unset};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope};
use jiff::Timestamp;
use serde_json::{Value, json};

pub static CSI_DRIVER: Kind = Declaration {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    group: "storage.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.storage.v1.CSIDriver",
    generation: Generation::OfSpecUnstarted,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

fn defaults(driver: &mut Value) {
    let Some(spec) = driver.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_missing(spec, "attachRequired", true);
    for name in
        ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount", "preventPodSchedulingIfMissing"]
    {
        set_missing(spec, name, false);
    }
    set_missing(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    set_unset(spec, "volumeLifecycleModes", json!(["Persistent"]));
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("AttachRequired", "boolean"),
        column("PodInfoOnMount", "boolean"),
        column("StorageCapacity", "boolean"),
        column("TokenRequests", "string"),
        column("RequiresRepublish", "boolean"),
        column("Modes", "string"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let modes = match join_texts(list(o, "/spec/volumeLifecycleModes"), ",") {
        none if none.is_empty() => "<none>".to_owned(),
        modes => modes,
    };
    let tokens = match o.pointer("/spec/tokenRequests") {
        Some(Value::Array(requests)) => join(requests, "audience", ","),
        _ => "<unset>".to_owned(),
    };
    vec![
        name(o),
        json!(flag_or(o, "/spec/attachRequired", true)),
        json!(flag_or(o, "/spec/podInfoOnMount", false)),
        json!(flag_or(o, "/spec/storageCapacity", false)),
        json!(tokens),
        json!(flag_or(o, "/spec/requiresRepublish", false)),
        json!(modes),
        age(o, now),
    ]
}
