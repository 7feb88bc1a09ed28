//! `MutatingAdmissionPolicy` (admissionregistration.k8s.io/v1): changes to incoming objects, written in CEL.

use crate::kind::{Declaration, Generation, Kind, Scope, Str};

pub static MUTATING_ADMISSION_POLICY: Kind = Declaration {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    generation: Generation::OfSpec,
    ..Declaration::NEW
}
.build();
