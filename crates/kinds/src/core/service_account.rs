//! `ServiceAccount` (v1): an identity for pods.

use crate::columns::{age, column, name, named};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;

pub static SERVICE_ACCOUNT: Kind = Declaration {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short: &[Str::Borrowed("sa")],
    schema: "io.k8s.api.core.v1.ServiceAccount",
    subresources: &[Subresource::Token],
    unconditional_update: true,
    columns: Some(COLUMNS),
    on_create: Some(names_alone),
    on_update: Some(|account, _| names_alone(account)),
    ..Declaration::NEW
}
.build();

/// Of the Secrets that it refers to, an account keeps the names.
/// `kubernetes/kubernetes pkg/registry/core/serviceaccount/strategy.go: cleanSecretReferences`.
fn names_alone(account: &mut Value) {
    let secrets = account.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|field, _| field == "name");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns { head: &[named("Name", 0), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), age(o, now)]
}
