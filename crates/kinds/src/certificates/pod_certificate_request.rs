//! `PodCertificateRequest` (certificates.k8s.io/v1): a kubelet's wish for a certificate for a pod.

use crate::columns::{column, column_of, labels, list, name, named, text};
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
        column_of("PodName", "string", "io.k8s.api.certificates.v1.PodCertificateRequestSpec", "podName"),
        column_of(
            "ServiceAccountName",
            "string",
            "io.k8s.api.certificates.v1.PodCertificateRequestSpec",
            "serviceAccountName",
        ),
        column_of("NodeName", "string", "io.k8s.api.certificates.v1.PodCertificateRequestSpec", "nodeName"),
        column_of("SignerName", "string", "io.k8s.api.certificates.v1.PodCertificateRequestSpec", "signerName"),
        column("State", "string"),
        column_of(
            "UnverifiedUserAnnotations",
            "string",
            "io.k8s.api.certificates.v1.PodCertificateRequestSpec",
            "unverifiedUserAnnotations",
        ),
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
