//! `MutatingAdmissionPolicyBinding` (admissionregistration.k8s.io/v1): where a MutatingAdmissionPolicy holds.

use super::policy;
use crate::columns::{age, column, name, named, param_ref, text};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static MUTATING_ADMISSION_POLICY_BINDING: Kind = Declaration {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    generation: Generation::OfSpec,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(object: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    policy::binding(&At::root(object).field("spec"), errors);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("PolicyName", "string"), column("ParamRef", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/spec/policyName")), param_ref(o), age(o, now)]
}
