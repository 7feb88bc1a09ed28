//! `CertificateSigningRequest` (certificates.k8s.io/v1): a wish for a certificate, its approval and the certificate.

use crate::columns::{age, column, condition, human_duration, name, named, text, text_or};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str, Subresource};
use jiff::Timestamp;
use serde_json::Value;
use serde_json::json;

pub static CERTIFICATE_SIGNING_REQUEST: Kind = Declaration {
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short: &[Str::Borrowed("csr")],
    group: "certificates.k8s.io",
    scope: Scope::Cluster,
    schema: "io.k8s.api.certificates.v1.CertificateSigningRequest",
    subresources: &[Subresource::Approval, Subresource::Status],
    name_rule: NameRule::Subdomain,
    fields: &[Str::Borrowed("spec.signerName")],
    unconditional_update: true,
    columns: Some(COLUMNS),
    on_update: Some(on_update),
    ..Declaration::NEW
}
.build();

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Age", "string"),
        column("SignerName", "string"),
        column("Requestor", "string"),
        column("RequestedDuration", "string"),
        column("Condition", "string"),
    ],
    cells,
};

fn cells(o: &Value, now: Timestamp) -> Vec<Value> {
    let requested = o.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    let requested = requested.map_or_else(|| "<none>".to_owned(), human_duration);
    vec![
        name(o),
        age(o, now),
        text_or(o, "/spec/signerName", "<none>"),
        json!(text(o, "/spec/username")),
        json!(requested),
        json!(status(o)),
    ]
}

fn status(o: &Value) -> String {
    let decided = match (condition(o, "Denied"), condition(o, "Approved")) {
        (Some(_), _) => "Denied",
        (None, Some(_)) => "Approved",
        (None, None) => "Pending",
    };
    let failed = if condition(o, "Failed").is_some() { ",Failed" } else { "" };
    let issued = if text(o, "/status/certificate").is_empty() { "" } else { ",Issued" };
    format!("{decided}{failed}{issued}")
}

/// A request never changes; only its approval and status do, by subresources of their own.
fn on_update(request: &mut Value, old: &Value) {
    crate::prepare::set_or_remove(request, &["spec"], old.get("spec").cloned());
}
