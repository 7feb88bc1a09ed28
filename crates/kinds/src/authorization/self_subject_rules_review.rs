//! `SelfSubjectRulesReview` (authorization.k8s.io/v1): what may I do in this namespace; answered, never stored.

use crate::kind::{Declaration, Kind, Scope, Verbs};

pub static SELF_SUBJECT_RULES_REVIEW: Kind = Declaration {
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    group: "authorization.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    verbs: Verbs::CREATE,
    ..Declaration::NEW
}
.build();
