//! `NodeMetrics` (metrics.k8s.io/v1beta1): what a node uses of its processors and memory.

use crate::kind::{BuiltInColumns, Computed, Declaration, Kind, Scope, Verbs};

pub static NODE_METRICS: Kind = Declaration {
    kind: "NodeMetrics",
    plural: "nodes",
    group: "metrics.k8s.io",
    version: "v1beta1",
    scope: Scope::Cluster,
    schema: "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics",
    verbs: Verbs::GET.and(Verbs::LIST),
    computed: Some(Computed::NodeMetrics),
    columns: Some(BuiltInColumns { head: super::HEAD, cells: |o, _now| super::row(o, &[&o["usage"]]) }),
    ..Declaration::NEW
}
.build();
