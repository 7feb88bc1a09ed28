//! `CustomResourceDefinition` (apiextensions.k8s.io/v1): a kind made by a user.

use crate::kind::{Declaration, Generation, Kind, Scope, Str, Subresource};

pub static CUSTOM_RESOURCE_DEFINITION: Kind = Declaration {
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short: &[Str::Borrowed("crd"), Str::Borrowed("crds")],
    categories: &[Str::Borrowed("api-extensions")],
    group: "apiextensions.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    status_keeps_metadata: true,
    storage_prefix: "apiextensions.k8s.io/customresourcedefinitions",
    ..Declaration::NEW
}
.build();
