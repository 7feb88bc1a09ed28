//! `SelfSubjectReview` (authentication.k8s.io/v1): who am I; answered, never stored.

use crate::kind::{Declaration, Kind, Scope, Verbs};

pub static SELF_SUBJECT_REVIEW: Kind = Declaration {
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    group: "authentication.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
    verbs: Verbs::CREATE,
    ..Declaration::NEW
}
.build();
