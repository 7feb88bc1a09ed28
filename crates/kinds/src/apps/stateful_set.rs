//! `StatefulSet` (apps/v1): pods with stable names and storage.

use crate::columns::{age, column, container_images, container_names, name, named, number, wide};
use crate::defaults::{existing, nested, objects, set_missing, set_unset, text_of};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, NameRule, ScalePaths, Str, Subresource};
use jiff::Timestamp;
use serde_json::json;
use serde_json::{Map, Value};

pub static STATEFUL_SET: Kind = Declaration {
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short: &[Str::Borrowed("sts")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.StatefulSet",
    subresources: &[Subresource::Scale(ScalePaths::REPLICAS), Subresource::Status],
    generation: Generation::OfSpec,
    name_rule: NameRule::Subdomain,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

fn defaults(set: &mut Value) {
    let Some(spec) = set.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    set_unset(spec, "podManagementPolicy", "OrderedReady");
    set_missing(spec, "replicas", 1);
    set_missing(spec, "revisionHistoryLimit", 10);
    for claim in objects(spec, "volumeClaimTemplates") {
        set_unset(claim, "apiVersion", "v1");
        set_unset(claim, "kind", "PersistentVolumeClaim");
    }
    if let Some(strategy) = nested(spec, "updateStrategy") {
        if text_of(strategy, "type").is_empty() {
            set_unset(strategy, "type", "RollingUpdate");
            set_missing(strategy, "rollingUpdate", Map::new());
        }
        if text_of(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = existing(strategy, "rollingUpdate")
        {
            set_missing(rolling, "partition", 0);
            set_missing(rolling, "maxUnavailable", 1);
        }
    }
    if let Some(retention) = nested(spec, "persistentVolumeClaimRetentionPolicy") {
        set_unset(retention, "whenDeleted", "Retain");
        set_unset(retention, "whenScaled", "Retain");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Ready", "string"),
        column("Age", "string"),
        wide("Containers", "string"),
        wide("Images", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas"))),
        age(o, now),
        container_names(o, "/spec/template/spec/containers"),
        container_images(o, "/spec/template/spec/containers"),
    ]
}
