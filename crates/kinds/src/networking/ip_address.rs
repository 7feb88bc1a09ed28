//! `IPAddress` (networking.k8s.io/v1): a Service's claim of one cluster address.

use crate::kind::{Declaration, Kind, NameRule, Scope, Str};

pub static IP_ADDRESS: Kind = Declaration {
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short: &[Str::Borrowed("ip")],
    group: "networking.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.networking.v1.IPAddress",
    name_rule: NameRule::Any,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
