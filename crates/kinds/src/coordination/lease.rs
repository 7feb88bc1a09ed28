//! `Lease` (coordination.k8s.io/v1): a claim that must be renewed: node heartbeats and leader election.

use crate::kind::{Declaration, Kind};

pub static LEASE: Kind = Declaration {
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    group: "coordination.k8s.io",
    schema: "io.k8s.api.coordination.v1.Lease",
    create_on_update: true,
    ..Declaration::NEW
}
.build();
