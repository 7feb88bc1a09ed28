//! `CertificateSigningRequest` (certificates.k8s.io/v1): a wish for a certificate, its approval and the certificate.

use crate::columns::{age, column, column_of, condition, human_duration, name, named, text, text_or};
use crate::kind::{BuiltInColumns, Declaration, Kind, NameRule, Scope, Str, Subresource};
use crate::validate::At;
use base64::Engine;
use jiff::Timestamp;
use machinery::field::FieldErrors;
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
    name_rule: NameRule::PathSegment,
    fields: &[Str::Borrowed("spec.signerName")],
    unconditional_update: true,
    columns: Some(COLUMNS),
    on_update: Some(on_update),
    validate: Some(validate),
    ..Declaration::NEW
}
.build();

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// A certificate lives ten minutes at least.
const EXPIRATION_SECONDS_MIN: i64 = 600;

fn validate(request: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(request).field("spec");
    if old.is_some() {
        return;
    }
    let (signer, usages, seconds) = (spec.field("signerName"), spec.field("usages"), spec.field("expirationSeconds"));
    super::signer::name(&signer, errors);
    usages.must_be_set(errors);
    for usage in usages.items() {
        usage.one_of(USAGES, errors);
    }
    if seconds.is_set() && seconds.int() < EXPIRATION_SECONDS_MIN {
        seconds.invalid(errors, "may not specify a duration less than 600 seconds (10 minutes)");
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(spec.field("request").text()).unwrap_or_default();
    if !String::from_utf8_lossy(&bytes).contains("-----BEGIN CERTIFICATE REQUEST-----") {
        spec.field("request").invalid(errors, "PEM block type must be CERTIFICATE REQUEST");
    }
}

const COLUMNS: BuiltInColumns = BuiltInColumns {
    head: &[
        named("Name", 0),
        column("Age", "string"),
        column_of(
            "SignerName",
            "string",
            "io.k8s.api.certificates.v1beta1.CertificateSigningRequestSpec",
            "signerName",
        ),
        column_of("Requestor", "string", "io.k8s.api.certificates.v1beta1.CertificateSigningRequestSpec", "request"),
        column_of(
            "RequestedDuration",
            "string",
            "io.k8s.api.certificates.v1beta1.CertificateSigningRequestSpec",
            "expirationSeconds",
        ),
        column_of(
            "Condition",
            "string",
            "io.k8s.api.certificates.v1beta1.CertificateSigningRequestStatus",
            "conditions",
        ),
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
