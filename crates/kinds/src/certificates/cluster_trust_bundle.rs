//! `ClusterTrustBundle` (certificates.k8s.io/v1): trust anchors for everyone in the cluster.

use crate::kind::{Declaration, Kind, NameRule, Scope, Str};

pub static CLUSTER_TRUST_BUNDLE: Kind = Declaration {
    kind: "ClusterTrustBundle",
    plural: "clustertrustbundles",
    singular: "clustertrustbundle",
    group: "certificates.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.certificates.v1.ClusterTrustBundle",
    name_rule: NameRule::Any,
    fields: &[Str::Borrowed("spec.signerName")],
    ..Declaration::NEW
}
.build();
