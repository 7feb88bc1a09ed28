//! `ControllerRevision` (apps/v1): a snapshot of a controller's template, for history and rollback.

use crate::columns::{age, column, column_of, name, named, number, text};
use crate::kind::{BuiltInColumns, Declaration, Kind};
use crate::validate::{At, immutable, nonnegative};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static CONTROLLER_REVISION: Kind = Declaration {
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    group: "apps",
    schema: "io.k8s.api.apps.v1.ControllerRevision",
    unconditional_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// `kubernetes/kubernetes pkg/apis/apps/validation/validation.go: ValidateControllerRevisionCreate`.
fn validate(revision: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(revision);
    let data = at.field("data");
    match old {
        None if !data.is_set() => data.required(errors, "data is mandatory"),
        None if !data.value.is_object() => data.required(errors, "data must be a valid JSON object"),
        None => {}
        Some(old) => immutable(&data, &At::root(old).field("data"), errors),
    }
    nonnegative(&at.field("revision"), errors);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Controller", "string"),
        column_of("Revision", "string", "io.k8s.api.apps.v1.ControllerRevision", "revision"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(controller(o)), json!(number(o, "/revision")), age(o, now)]
}

fn controller(o: &Value) -> String {
    let Some(owner) = machinery::object::controller_of(o) else { return "<none>".to_owned() };
    let kind = text(owner, "/kind").to_lowercase();
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "/name")),
        None => format!("{kind}/{}", text(owner, "/name")),
    }
}
