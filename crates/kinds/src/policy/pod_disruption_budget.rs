//! `PodDisruptionBudget` (policy/v1): how many pods of a set may be evicted at a time.

use crate::columns::{age, column, name, named, number, shown};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, NameRule, Str, Subresource};
use crate::validate::selector::label_selector;
use crate::validate::template::Parts;
use crate::validate::{at_most_100_percent, int_or_percent, nonnegative_fields};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static POD_DISRUPTION_BUDGET: Kind = Declaration {
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short: &[Str::Borrowed("pdb")],
    group: "policy",
    schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    columns: Some(COLUMNS),
    validate: Some(validate),
    name_rule: NameRule::PathSegment,
    ..Declaration::NEW
}
.build();

fn validate(budget: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let parts = Parts::of(budget, old);
    if let Some(spec) = &parts.spec {
        let (least, most) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
        if least.is_set() && most.is_set() {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            spec.invalid(errors, detail);
        }
        for bound in [least, most].iter().filter(|bound| bound.is_set()) {
            int_or_percent(bound, errors);
            at_most_100_percent(bound, errors);
        }
        label_selector(&spec.field("selector"), errors);
        spec.field("unhealthyPodEvictionPolicy").optional_one_of(&["AlwaysAllow", "IfHealthyBudget"], errors);
    }
    if let Some(status) = &parts.status {
        let counts = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];
        nonnegative_fields(status, &counts, errors);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Min Available", "string"),
        column("Max Unavailable", "string"),
        column("Allowed Disruptions", "integer"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let or_na = |pointer: &str| match o.pointer(pointer).filter(|value| !value.is_null()) {
        Some(value) => json!(shown(value)),
        None => json!("N/A"),
    };
    vec![
        name(o),
        or_na("/spec/minAvailable"),
        or_na("/spec/maxUnavailable"),
        json!(number(o, "/status/disruptionsAllowed")),
        age(o, now),
    ]
}
