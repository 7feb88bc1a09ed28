//! `RuntimeClass` (node.k8s.io/v1): a named way to run a pod's containers.

use crate::columns::{age, column, column_of, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Scope};
use crate::validate::selector::labels;
use crate::validate::{At, affinity, immutable_unshown, resources};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use machinery::names;
use serde_json::Value;
use serde_json::json;

pub static RUNTIME_CLASS: Kind = Declaration {
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    group: "node.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.node.v1.RuntimeClass",
    create_on_update: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(class: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let at = At::root(class);
    let handler = at.field("handler");
    if let Some(old) = old {
        immutable_unshown(&handler, &At::root(old).field("handler"), errors);
    }
    if handler.must_be_set(errors) {
        handler.invalid_each(errors, names::short_name(handler.text()));
    }
    let overhead = at.field("overhead");
    for (name, amount) in overhead.field("podFixed").reported_at(overhead.path.child("limits")).entries() {
        resources::container_resource_name(name, &amount, errors);
        resources::resource_value(name, &amount, errors);
    }
    if let Some(scheduling) = at.set("scheduling") {
        labels(&scheduling.field("nodeSelector"), errors);
        affinity::tolerations(&scheduling.field("tolerations"), errors);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Handler", "string", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "handler"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/handler")), age(o, now)]
}
