//! `ValidatingAdmissionPolicy` (admissionregistration.k8s.io/v1): conditions on incoming objects, written in CEL.

use super::policy;
use crate::columns::{age, column, count, name, named, param_kind};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str, Subresource};
use crate::validate::At;
use crate::validate::expressions::expression;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static VALIDATING_ADMISSION_POLICY: Kind = Declaration {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    status_keeps_metadata: true,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(object: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(object).field("spec");
    let known = policy::policy(&spec, errors);
    let (validations, annotations) = (spec.field("validations"), spec.field("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        validations.required(errors, "validations or auditAnnotations must contain at least one item");
        annotations.required(errors, "validations or auditAnnotations must contain at least one item");
    }
    validations.items().for_each(|one| policy::validation(&one, &known, errors));
    for annotation in annotations.items() {
        annotation.field("key").must_be_set(errors);
        let value = annotation.field("valueExpression");
        expression(&value, "valueExpression is not specified", &policy::names_of(&known), errors);
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Validations", "integer"), column("ParamKind", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/spec/validations")), param_kind(o), age(o, now)]
}
