//! `ValidatingAdmissionPolicy` (admissionregistration.k8s.io/v1): conditions on incoming objects, written in CEL.

use crate::columns::{age, column, count, name, named, param_kind};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str, Subresource};
use jiff::Timestamp;
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
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[named("Name", 0), column("Validations", "integer"), column("ParamKind", "string"), column("Age", "string")],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/spec/validations")), param_kind(o), age(o, now)]
}
