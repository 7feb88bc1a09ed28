//! `MutatingWebhookConfiguration` (admissionregistration.k8s.io/v1): webhooks that may change incoming objects.

use super::webhook::webhook_rules;
use crate::columns::{age, column, count, name, named};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use crate::validate::At;
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static MUTATING_WEBHOOK_CONFIGURATION: Kind = Declaration {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    generation: Generation::OfAll,
    columns: Some(COLUMNS),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(configuration: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    At::root(configuration).field("webhooks").items().for_each(|webhook| webhook_rules(&webhook, errors));
}

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Webhooks", "integer"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/webhooks")), age(o, now)]
}
