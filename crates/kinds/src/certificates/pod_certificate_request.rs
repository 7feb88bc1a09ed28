//! `PodCertificateRequest` (certificates.k8s.io/v1): a kubelet's wish for a certificate for a pod.

use crate::columns::{column, column_of, labels, list, name, named, text};
use crate::kind::{BuiltInColumns, Declaration, Kind, Str, Subresource};
use crate::validate::{At, immutable};
use base64::Engine;
use jiff::Timestamp;
use machinery::field::{BadValue, FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;
use serde_json::json;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

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
    validate: Some(validate),
    // As upstream keeps it, so that the release before can read it.
    storage_version: Some(("certificates.k8s.io", "v1beta1")),
    ..Declaration::NEW
}
.build();

const UID_BYTES_MAX: usize = 128;
const REQUEST_BYTES_MAX: usize = 10 * 1024;
const HOUR_SECONDS: i64 = 60 * 60;

/// `kubernetes/kubernetes pkg/apis/certificates/validation/validation.go: ValidatePodCertificateRequestCreate`. That the
/// requester has the key is left to the signer.
fn validate(request: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let spec = At::root(request).field("spec");
    if let Some(old) = old {
        return immutable(&spec, &At::root(old).field("spec"), errors);
    }
    let signer = spec.field("signerName");
    super::signer::name(&signer, errors);
    unverified(&spec.field("unverifiedUserAnnotations"), errors);
    for about in ["pod", "serviceAccount", "node"] {
        let (name, uid) = (spec.field(&format!("{about}Name")), spec.field(&format!("{about}UID")));
        name.invalid_each(errors, names::dns1123_subdomain(name.text()));
        if uid.is_empty() {
            uid.invalid_each(errors, vec!["must not be empty".to_owned()]);
        } else if uid.text().len() > UID_BYTES_MAX {
            errors.push(FieldError::too_long(&uid.path, UID_BYTES_MAX));
        }
    }
    lifetime(&spec.field("maxExpirationSeconds"), signer.text(), errors);
    key(&spec, errors);
}

fn unverified(annotations: &At, errors: &mut FieldErrors) {
    for (name, _) in annotations.entries() {
        let name = name.to_lowercase();
        let complaints = match names::qualified_name(&name) {
            none if none.is_empty() && !name.contains('/') => {
                vec!["must be a domain-prefixed key (such as \"acme.io/foo\")".to_owned()]
            }
            complaints => complaints,
        };
        errors.invalid_each(&annotations.path, &name, complaints);
    }
}

/// Kubernetes' own signers give a day at most, others a quarter of a year.
fn lifetime(seconds: &At, signer: &str, errors: &mut FieldErrors) {
    let domain = signer.split('/').next().unwrap_or_default();
    let own = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let most = if own { 24 * HOUR_SECONDS } else { 91 * 24 * HOUR_SECONDS };
    if !seconds.is_set() {
        seconds.required(errors, "must be set");
    } else if !(HOUR_SECONDS..=most).contains(&seconds.int()) {
        seconds.invalid(errors, format!("must be in the range [{HOUR_SECONDS}, {most}]"));
    }
}

fn key(spec: &At, errors: &mut FieldErrors) {
    let [stub, public, proof] =
        ["stubPKCS10Request", "pkixPublicKey", "proofOfPossession"].map(|name| spec.field(name));
    let complain = |at: &At, detail: &str| FieldError::invalid(&at.path, BadValue::Omitted, detail);
    match (stub.is_empty(), public.is_empty(), proof.is_empty()) {
        (false, true, true) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(stub.text()).unwrap_or_default();
            if bytes.len() > REQUEST_BYTES_MAX {
                errors.push(FieldError::too_long(&stub.path, REQUEST_BYTES_MAX));
            } else if X509CertificationRequest::from_der(&bytes).is_err() {
                errors.push(complain(&stub, "must be a valid PKCS#10 CSR"));
            }
        }
        (true, false, false) => {}
        _ => errors.push(complain(
            spec,
            "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set",
        )),
    }
}

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
