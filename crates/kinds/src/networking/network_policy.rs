//! `NetworkPolicy` (networking.k8s.io/v1): who may talk to the pods it selects.

use crate::columns::{age, column, column_of, label_selector, name, named};
use crate::defaults::{nested, set_unset};
use crate::facts::is_zero;
use crate::kind::{BuiltInColumns, Declaration, Generation, Kind, Str};
use crate::validate::selector;
use crate::validate::{self as validate, At};
use jiff::Timestamp;
use machinery::field::FieldErrors;
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
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

fn validate(policy: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    if old.is_some_and(|old| old["spec"] == policy["spec"]) {
        return;
    }
    let spec = At::root(policy).field("spec");
    selector::label_selector(&spec.field("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.field(direction).items() {
            rule.field("ports").items().for_each(|at| port(&at, errors));
            rule.field(peers).items().for_each(|at| peer(&at, errors));
        }
    }
    let types = spec.field("policyTypes");
    if types.count() > 2 {
        return types.invalid(errors, "may not specify more than two policyTypes");
    }
    for of in types.items() {
        of.one_of(&["Ingress", "Egress"], errors);
    }
}

fn port(at: &At, errors: &mut FieldErrors) {
    at.field("protocol").optional_one_of(&["TCP", "UDP", "SCTP"], errors);
    let (first, last) = (at.field("port"), at.field("endPort"));
    if first.is_set() {
        validate::port(&first, errors);
    }
    if !last.is_set() {
        return;
    }
    match first.value {
        Value::Null => last.invalid(errors, "may not be specified when `port` is not specified"),
        Value::String(_) => last.invalid(errors, "may not be specified when `port` is non-numeric"),
        _ => {
            if last.int() < first.int() {
                last.invalid(errors, "must be greater than or equal to `port`");
            }
            validate::port(&last, errors);
        }
    }
}

fn peer(at: &At, errors: &mut FieldErrors) {
    let [pods, namespaces, block] = ["podSelector", "namespaceSelector", "ipBlock"].map(|name| at.field(name));
    selector::label_selector(&pods, errors);
    selector::label_selector(&namespaces, errors);
    if block.is_set() {
        ip_block(&block, errors);
    }
    match (pods.is_set() || namespaces.is_set(), block.is_set()) {
        (false, false) => at.required(errors, "must specify a peer"),
        (true, true) => at.forbidden(errors, "may not specify both ipBlock and another peer"),
        _ => {}
    }
}

fn ip_block(at: &At, errors: &mut FieldErrors) {
    let block = at.field("cidr");
    if !block.must_be_set(errors) || !validate::cidr(&block.path, block.text(), &[], errors) {
        return;
    }
    for except in at.field("except").items() {
        let is_network = validate::cidr(&except.path, except.text(), &[], errors);
        if is_network && !validate::is_within(except.text(), block.text()) {
            except.invalid(errors, "must be a strict subset of `cidr`");
        }
    }
}

/// A policy that does not say is about what comes in, and about what goes out if it has rules for that.
fn defaults(policy: &mut Value) {
    let Some(spec) = policy.as_object_mut().and_then(|fields| nested(fields, "spec")) else { return };
    let has_egress = spec.get("egress").is_some_and(|rules| !is_zero(rules));
    set_unset(spec, "policyTypes", if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Pod-Selector", "string", "io.k8s.api.networking.v1.NetworkPolicySpec", "podSelector"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), label_selector(o, "/spec/podSelector"), age(o, now)]
}
