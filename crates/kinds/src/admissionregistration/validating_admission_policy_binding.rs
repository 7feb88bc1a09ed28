//! `ValidatingAdmissionPolicyBinding` (admissionregistration.k8s.io/v1): where a ValidatingAdmissionPolicy holds.

use crate::kind::{Declaration, Generation, Kind, Scope, Str};

pub static VALIDATING_ADMISSION_POLICY_BINDING: Kind = Declaration {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
    generation: Generation::OfSpec,
    ..Declaration::NEW
}
.build();
