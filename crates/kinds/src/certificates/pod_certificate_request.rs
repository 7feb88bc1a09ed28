//! `PodCertificateRequest` (certificates.k8s.io/v1): a kubelet's wish for a certificate for a pod.

use crate::kind::{Declaration, Kind, Str, Subresource};

pub static POD_CERTIFICATE_REQUEST: Kind = Declaration {
    kind: "PodCertificateRequest",
    plural: "podcertificaterequests",
    singular: "podcertificaterequest",
    group: "certificates.k8s.io",
    schema: "io.k8s.api.certificates.v1.PodCertificateRequest",
    subresources: &[Subresource::Status],
    status_keeps_metadata: true,
    fields: &[Str::Borrowed("spec.signerName"), Str::Borrowed("spec.podName"), Str::Borrowed("spec.nodeName")],
    ..Declaration::NEW
}
.build();
