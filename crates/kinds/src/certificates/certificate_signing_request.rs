//! `CertificateSigningRequest` (certificates.k8s.io/v1): a wish for a certificate, its approval and the certificate.

use crate::kind::{Declaration, Kind, NameRule, Scope, Str, Subresource};

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
    ..Declaration::NEW
}
.build();
