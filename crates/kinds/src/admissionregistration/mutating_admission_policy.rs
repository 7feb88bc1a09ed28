//! `MutatingAdmissionPolicy` (admissionregistration.k8s.io/v1): changes to incoming objects, written in CEL.

use super::policy;
use crate::columns::{age, column, count, name, named, param_kind};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static MUTATING_ADMISSION_POLICY: Kind = Declaration {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    generation: Generation::OfSpec,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(object: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(object).field("spec");
    let known = policy::policy(&spec, errors);
    let mutations = spec.field("mutations");
    if mutations.is_empty() {
        mutations.required(errors, "mutations must contain at least one item");
    }
    mutations.items().for_each(|one| policy::mutation(&one, &known, errors));
    let again = spec.field("reinvocationPolicy");
    if again.must_be_set(errors) {
        again.one_of(&["IfNeeded", "Never"], errors);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Mutations", "integer"), column("ParamKind", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/spec/mutations")), param_kind(o), age(o, now)]
}
