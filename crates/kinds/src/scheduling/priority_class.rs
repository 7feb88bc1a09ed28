//! `PriorityClass` (scheduling.k8s.io/v1): a named scheduling priority.

use crate::columns::{age, column, column_of, flag_or, name, named, number, text};
use crate::defaults::set_missing;
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use crate::validate::{At, immutable};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static PRIORITY_CLASS: Kind = Declaration {
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short: &[Str::Borrowed("pc")],
    group: "scheduling.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.scheduling.v1.PriorityClass",
    generation: Generation::Initial,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(class: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    /// Above it the system's own priorities begin.
    const USER_MAX: i64 = 1_000_000_000;
    let at = At::root(class);
    let (name, value) = (at.fields(&["metadata", "name"]), at.field("value"));
    if let Some(old) = old {
        let old = At::root(old);
        if value.value != old.field("value").value {
            value.forbidden(errors, "may not be changed in an update.");
        }
        return immutable(&at.field("preemptionPolicy"), &old.field("preemptionPolicy"), errors);
    }
    let known = match name.text() {
        "system-cluster-critical" => Some(2_000_000_000),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    };
    if name.text().starts_with("system-") {
        let error = match known {
            None => Some("is not a known system priority class".to_owned()),
            Some(due) if due != value.int() => Some(format!("value of {} PriorityClass must be {due}", name.text())),
            Some(_) if at.field("globalDefault").flag() => {
                Some(format!("globalDefault of {} PriorityClass must be false", name.text()))
            }
            Some(_) => None,
        };
        if let Some(error) = error {
            let text = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let error = if known.is_none() { format!("{} {error}", name.text()) } else { error };
            name.forbidden(errors, format!("{text}{error}"));
        }
    } else if value.int() > USER_MAX {
        value.forbidden(errors, format!("maximum allowed value of a user defined priority is {USER_MAX}"));
    }
    at.field("preemptionPolicy").optional_one_of(&["PreemptLowerPriority", "Never"], errors);
}

fn defaults(class: &mut Value) {
    if let Some(fields) = class.as_object_mut() {
        set_missing(fields, "preemptionPolicy", "PreemptLowerPriority");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Value", "integer", "io.k8s.api.scheduling.v1.PriorityClass", "value"),
        column_of("Global-Default", "boolean", "io.k8s.api.scheduling.v1.PriorityClass", "globalDefault"),
        column("Age", "string"),
        column_of("PreemptionPolicy", "string", "io.k8s.api.scheduling.v1.PriorityClass", "preemptionPolicy"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(number(o, "/value")),
        json!(flag_or(o, "/globalDefault", false)),
        age(o, now),
        json!(text(o, "/preemptionPolicy")),
    ]
}
