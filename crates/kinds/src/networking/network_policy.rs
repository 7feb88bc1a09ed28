//! `NetworkPolicy` (networking.k8s.io/v1): who may talk to the pods it selects.

use crate::columns::{age, column, label_selector, name, named};
use crate::defaults::{nested, set_unset};
use crate::facts::is_zero;
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str};
use jiff::Timestamp;
use serde_json::{Value, json};

pub static NETWORK_POLICY: Kind = Declaration {
    kind: "NetworkPolicy",
    plural: "networkpolicies",
    singular: "networkpolicy",
    short: &[Str::Borrowed("netpol")],
    group: "networking.k8s.io",
    schema: "io.k8s.api.networking.v1.NetworkPolicy",
    generation: Generation::OfSpec,
    unconditional_update: true,
    conditional_defaults: Some(defaults),
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

/// A policy that does not say is about what comes in, and about what goes out if it has rules for that.
fn defaults(policy: &mut Value) {
    let Some(spec) = policy.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    let has_egress = spec.get("egress").is_some_and(|rules| !is_zero(rules));
    set_unset(spec, "policyTypes", if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
}

const COLUMNS: BuiltInColumns =
    BuiltInColumns { head: &[named("Name", 0), column("Pod-Selector", "string"), column("Age", "string")], cells };

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), label_selector(o, "/spec/podSelector"), age(o, now)]
}
