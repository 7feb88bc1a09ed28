//! `PodTemplate` (v1): a stored pod template.

use crate::columns::{column, container_images, container_names, labels, name, named};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind};
use crate::validate::At;
use crate::validate::template::pod_template;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;

pub static POD_TEMPLATE: Kind = Declaration {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    schema: "io.k8s.api.core.v1.PodTemplate",
    generation: Generation::OfTemplate,
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(template: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if old.is_none_or(|old| old["template"] != template["template"]) {
        pod_template(&At::root(template).field("template"), errors);
    }
}

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
