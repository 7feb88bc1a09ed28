//! `ValidatingAdmissionPolicy` (admissionregistration.k8s.io/v1): conditions on incoming objects, written in CEL.

use crate::kind::{Declaration, Generation, Kind, Scope, Str, Subresource};

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
    ..Declaration::NEW
}
.build();
