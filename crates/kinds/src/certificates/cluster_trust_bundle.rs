//! `ClusterTrustBundle` (certificates.k8s.io/v1): trust anchors for everyone in the cluster.

use crate::columns::{column_of, name, named, text_or};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str};
use jiff::Timestamp;
use serde_json::Value;

pub static CLUSTER_TRUST_BUNDLE: Kind = Declaration {
    kind: "ClusterTrustBundle",
    plural: "clustertrustbundles",
    singular: "clustertrustbundle",
    group: "certificates.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.certificates.v1.ClusterTrustBundle",
    name_rule: NameRule::Any,
    fields: &[Str::Borrowed("spec.signerName")],
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column_of("SignerName", "string", "io.k8s.api.certificates.v1.ClusterTrustBundleSpec", "signerName"),
    ],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(o), text_or(o, "/spec/signerName", "<none>")]
}
