//! `Lease` (coordination.k8s.io/v1): a claim that must be renewed: node heartbeats and leader election.

use crate::columns::{age, column, column_of, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind};
use crate::validate::{At, nonnegative};
use jiff::Timestamp;
use machinery::field::FieldErrors;
use serde_json::Value;
use serde_json::json;

pub static LEASE: Kind = Declaration {
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    group: "coordination.k8s.io",
    schema: "io.k8s.api.coordination.v1.Lease",
    create_on_update: true,
    columns: Some(COLUMNS),
    on_create: Some(|lease| without_election(lease, None)),
    on_update: Some(|lease, old| without_election(lease, Some(old))),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

/// Nobody elects leaders for others here, so what asks for it is not kept; upstream's `CoordinatedLeaderElection` is off too.
fn without_election(lease: &mut Value, old: Option<&Value>) {
    for field in ["strategy", "preferredHolder"] {
        if old.is_none_or(|old| At::root(old).fields(&["spec", field]).is_empty()) {
            machinery::object::take(lease, &["spec", field]);
        }
    }
}

fn validate(lease: &Value, _old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(lease).field("spec");
    let seconds = spec.field("leaseDurationSeconds");
    if seconds.is_set() && seconds.int() <= 0 {
        seconds.invalid(errors, "must be greater than 0");
    }
    nonnegative(&spec.field("leaseTransitions"), errors);
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("Holder", "string", "io.k8s.api.coordination.v1.LeaseSpec", "holderIdentity"),
        column("Age", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    vec![name(o), json!(text(o, "/spec/holderIdentity")), age(o, now)]
}
