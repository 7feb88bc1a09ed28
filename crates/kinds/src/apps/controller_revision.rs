//! `ControllerRevision` (apps/v1): a snapshot of a controller's template, for history and rollback.

use crate::columns::{age, column, name, named, number, text};
use crate::kind::{BuiltInColumns, Declaration, Kind};
use jiff::Timestamp;
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
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Controller", "string"), column("Revision", "string"), column("Age", "string")],
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
