//! `DaemonSet` (apps/v1): a pod on every node that fits.

use crate::kind::{Declaration, Generation, Kind, Str, Subresource};

pub static DAEMON_SET: Kind = Declaration {
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short: &[Str::Borrowed("ds")],
    categories: &[Str::Borrowed("all")],
    group: "apps",
    schema: "io.k8s.api.apps.v1.DaemonSet",
    subresources: &[Subresource::Status],
    generation: Generation::OfSpec,
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
