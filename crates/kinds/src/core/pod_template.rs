//! `PodTemplate` (v1): a stored pod template.

use crate::columns::{column, container_images, container_names, labels, name, named};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind};
use jiff::Timestamp;
use serde_json::Value;

pub static POD_TEMPLATE: Kind = Declaration {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    schema: "io.k8s.api.core.v1.PodTemplate",
    generation: Generation::OfTemplate,
    unconditional_update: true,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Containers", "string"),
        column("Images", "string"),
        column("Pod Labels", "string"),
    ],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        container_names(o, "/template/spec/containers"),
        container_images(o, "/template/spec/containers"),
        labels(o, "/template/metadata/labels"),
    ]
}
