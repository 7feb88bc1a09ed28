//! `MutatingAdmissionPolicyBinding` (admissionregistration.k8s.io/v1): where a MutatingAdmissionPolicy holds.

use crate::kind::{Declaration, Generation, Kind, Scope, Str};

pub static MUTATING_ADMISSION_POLICY_BINDING: Kind = Declaration {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    generation: Generation::OfSpec,
    ..Declaration::NEW
}
.build();
