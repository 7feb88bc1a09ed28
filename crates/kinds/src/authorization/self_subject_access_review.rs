//! `SelfSubjectAccessReview` (authorization.k8s.io/v1): may I do this; answered, never stored.

use crate::kind::{Declaration, Kind, Scope, Verbs};

pub static SELF_SUBJECT_ACCESS_REVIEW: Kind = Declaration {
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    group: "authorization.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    verbs: Verbs::CREATE,
    ..Declaration::NEW
}
.build();
