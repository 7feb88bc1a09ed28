//! `TokenReview` (authentication.k8s.io/v1): whose token is this; answered, never stored.

use crate::kind::{Declaration, Kind, Scope, Verbs};

pub static TOKEN_REVIEW: Kind = Declaration {
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    group: "authentication.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.authentication.v1.TokenReview",
    verbs: Verbs::CREATE,
    ..Declaration::NEW
}
.build();
