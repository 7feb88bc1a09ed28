//! `MutatingWebhookConfiguration` (admissionregistration.k8s.io/v1): webhooks that may change incoming objects.

use crate::kind::{Declaration, Generation, Kind, Scope, Str};

pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Declaration {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    generation: Generation::OfAll,
    ..Declaration::NEW
}
.build();
