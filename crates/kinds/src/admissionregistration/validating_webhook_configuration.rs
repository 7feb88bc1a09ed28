//! `ValidatingWebhookConfiguration` (admissionregistration.k8s.io/v1): webhooks that may refuse incoming objects.

use crate::kind::{Declaration, Generation, Kind, Scope, Str};

pub static VALIDATING_WEBHOOK_CONFIGURATION: Kind = Declaration {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    generation: Generation::OfAll,
    ..Declaration::NEW
}
.build();
