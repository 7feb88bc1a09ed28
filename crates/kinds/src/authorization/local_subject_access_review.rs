//! `LocalSubjectAccessReview` (authorization.k8s.io/v1): may this user do this in this namespace; answered, never stored.

use crate::kind::{Declaration, Kind, Verbs};

pub static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Declaration {
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    group: "authorization.k8s.io",
    schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    verbs: Verbs::CREATE,
    ..Declaration::NEW
}
.build();
