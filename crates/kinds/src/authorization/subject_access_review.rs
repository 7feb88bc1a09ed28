//! `SubjectAccessReview` (authorization.k8s.io/v1): may this user do this; answered, never stored.

use crate::kind::{Declaration, Kind, Scope, Verbs};

pub static SUBJECT_ACCESS_REVIEW: Kind = Declaration {
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    group: "authorization.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.authorization.v1.SubjectAccessReview",
    verbs: Verbs::CREATE,
    ..Declaration::NEW
}
.build();
