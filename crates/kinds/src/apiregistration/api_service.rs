//! `APIService` (apiregistration.k8s.io/v1): a group and version served by another API server.

use crate::kind::{Declaration, Kind, NameRule, Scope, Str, Subresource};

pub static API_SERVICE: Kind = Declaration {
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &[Str::Borrowed("api-extensions")],
    group: "apiregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
    subresources: &[Subresource::Status],
    name_rule: NameRule::PathSegment,
    storage_prefix: "apiregistration.k8s.io/apiservices",
    ..Declaration::NEW
}
.build();
