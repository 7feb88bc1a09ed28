//! `PodCertificateRequest` (certificates.k8s.io/v1): a kubelet's wish for a certificate for a pod.

use crate::columns::{column, labels, list, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static POD_CERTIFICATE_REQUEST: Kind = Declaration {
    kind: "PodCertificateRequest",
    plural: "podcertificaterequests",
    singular: "podcertificaterequest",
    group: "certificates.k8s.io",
    schema: "io.k8s.api.certificates.v1.PodCertificateRequest",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    fields: &[Str::Borrowed("spec.signerName"), Str::Borrowed("spec.podName"), Str::Borrowed("spec.nodeName")],
    columns: Some(COLUMNS),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("PodName", "string"),
        column("ServiceAccountName", "string"),
        column("NodeName", "string"),
        column("SignerName", "string"),
        column("State", "string"),
        column("UnverifiedUserAnnotations", "string"),
    ],
    cells,
};

fn cells(o: &Value, _now: Timestamp) -> Vec<Value> {
    vec![
        name(o),
        json!(text(o, "/spec/podName")),
        json!(text(o, "/spec/serviceAccountName")),
        json!(text(o, "/spec/nodeName")),
        json!(text(o, "/spec/signerName")),
        json!(state(o)),
        labels(o, "/spec/unverifiedUserAnnotations"),
    ]
}

fn state(o: &Value) -> &str {
    let conditions = list(o, "/status/conditions").iter().rev();
    let mut types = conditions.map(|condition| text(condition, "/type"));
    types.find(|of| matches!(*of, "Issued" | "Denied" | "Failed")).unwrap_or("Pending")
}
