//! `Pod` (v1): containers that run together on one node.

use crate::kind::{Declaration, Generation, Kind, NameRule, Str, Subresource};

pub static POD: Kind = Declaration {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short: &[Str::Borrowed("po")],
    categories: &[Str::Borrowed("all")],
    schema: "io.k8s.api.core.v1.Pod",
    subresources: &[
        Subresource::Attach,
        Subresource::Binding,
        Subresource::EphemeralContainers,
        Subresource::Eviction,
        Subresource::Exec,
        Subresource::Log,
        Subresource::PortForward,
        Subresource::Proxy,
        Subresource::Resize,
        Subresource::Status,
    ],
    generation: Generation::OfSpec,
    name_rule: NameRule::Subdomain,
    fields: &[
        Str::Borrowed("spec.nodeName"),
        Str::Borrowed("spec.restartPolicy"),
        Str::Borrowed("spec.schedulerName"),
        Str::Borrowed("spec.serviceAccountName"),
        Str::Borrowed("spec.hostNetwork"),
        Str::Borrowed("status.phase"),
        Str::Borrowed("status.podIP"),
        Str::Borrowed("status.podIPs"),
        Str::Borrowed("status.nominatedNodeName"),
    ],
    unconditional_update: true,
    ..Declaration::NEW
}
.build();
