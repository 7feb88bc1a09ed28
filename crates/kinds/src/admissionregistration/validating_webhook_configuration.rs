//! `ValidatingWebhookConfiguration` (admissionregistration.k8s.io/v1): webhooks that may refuse incoming objects.

use crate::columns::{age, column, count, name, named};
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Scope, Str};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static VALIDATING_WEBHOOK_CONFIGURATION: Kind = Declaration {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    categories: &[Str::Borrowed("api-extensions")],
    group: "admissionregistration.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    generation: Generation::OfAll,
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Webhooks", "integer"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(count(o, "/webhooks")), age(o, now)]
}
