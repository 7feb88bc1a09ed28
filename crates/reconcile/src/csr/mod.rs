//! Certificate signing requests: which are approved without a human, which are signed, and which are thrown away.
//!
//! kubernetes/kubernetes pkg/apis/certificates/helpers.go: decides what a kubelet's request may look like.

pub mod approval;
pub(crate) mod cleaner;
pub(crate) mod signing;

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use crate::ports::RequestedCertificate;

/// Client certificates of kubelets.
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    request.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or(&[])
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).iter().any(|c| c.type_ == kind)
}

fn issued(request: &CertificateSigningRequest) -> bool {
    request.status.as_ref().and_then(|s| s.certificate.as_ref()).is_some_and(|c| !c.0.is_empty())
}

fn usages(request: &CertificateSigningRequest) -> BTreeSet<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

/// Exactly these usages, or these without what only RSA keys need.
fn uses_exactly(usages: &BTreeSet<&str>, main: &str) -> Result<(), String> {
    let all = BTreeSet::from(["digital signature", "key encipherment", main]);
    let without = BTreeSet::from(["digital signature", main]);
    if *usages == all || *usages == without {
        return Ok(());
    }
    Err(format!("usages did not match {}", go_list(&all)))
}

fn go_list(items: &BTreeSet<&str>) -> String {
    format!("[{}]", items.iter().copied().collect::<Vec<_>>().join(" "))
}

/// What every certificate of a node must name.
fn names_node(asked: &RequestedCertificate) -> Result<(), String> {
    if asked.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".into());
    }
    if !asked.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".into());
    }
    Ok(())
}

fn kubelet_client(asked: &RequestedCertificate, usages: &BTreeSet<&str>) -> Result<(), String> {
    let unwanted = [
        (asked.dns_names.len(), "DNS subjectAltNames are not allowed"),
        (asked.email_addresses, "Email subjectAltNames are not allowed"),
        (asked.ip_addresses.len(), "IP subjectAltNames are not allowed"),
        (asked.uris, "URI subjectAltNames are not allowed"),
    ];
    names_node(asked)?;
    if let Some((_, message)) = unwanted.iter().find(|(count, _)| *count > 0) {
        return Err((*message).into());
    }
    uses_exactly(usages, "client auth")
}

fn kubelet_serving(asked: &RequestedCertificate, usages: &BTreeSet<&str>) -> Result<(), String> {
    names_node(asked)?;
    match (asked.dns_names.len() + asked.ip_addresses.len(), asked.email_addresses, asked.uris) {
        (0, _, _) => Err("DNS or IP subjectAltName is required".into()),
        (_, 1.., _) => Err("Email subjectAltNames are not allowed".into()),
        (_, _, 1..) => Err("URI subjectAltNames are not allowed".into()),
        (_, 0, 0) => uses_exactly(usages, "server auth"),
    }
}

fn client(usages: &BTreeSet<&str>) -> Result<(), String> {
    const OPTIONAL: [&str; 2] = ["digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|u| **u != "client auth" && !OPTIONAL.contains(u)) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.contains("client auth") {
        return Err("missing required usage for client certificate: client auth".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(common_name: &str, organization: &str) -> RequestedCertificate {
        RequestedCertificate {
            common_name: common_name.into(),
            organizations: vec![organization.into()],
            ..RequestedCertificate::default()
        }
    }

    #[test]
    fn what_a_kubelet_may_ask_for() {
        let client_usages = BTreeSet::from(["digital signature", "client auth"]);
        let node = asked("system:node:n", "system:nodes");
        let with = |change: fn(&mut RequestedCertificate)| {
            let mut node = node.clone();
            change(&mut node);
            node
        };
        let dns = with(|n| n.dns_names = vec!["n".into()]);
        let wrong = "usages did not match [client auth digital signature key encipherment]";
        for (asked, usages, expected) in [
            (&node, &client_usages, Ok(())),
            (&node, &BTreeSet::from(["client auth"]), Err(wrong)),
            (&asked("n", "system:nodes"), &client_usages, Err("subject common name does not begin with system:node:")),
            (
                &asked("system:node:n", "system:masters"),
                &client_usages,
                Err("subject organization is not system:nodes"),
            ),
            (&dns, &client_usages, Err("DNS subjectAltNames are not allowed")),
            (&with(|n| n.uris = 1), &client_usages, Err("URI subjectAltNames are not allowed")),
        ] {
            assert_eq!(kubelet_client(asked, usages), expected.map_err(String::from), "{asked:?}");
        }
        let serving = BTreeSet::from(["digital signature", "key encipherment", "server auth"]);
        assert_eq!(kubelet_serving(&dns, &serving), Ok(()));
        assert_eq!(kubelet_serving(&node, &serving), Err("DNS or IP subjectAltName is required".into()));
        let both = with(|n| (n.dns_names, n.email_addresses) = (vec!["n".into()], 1));
        assert_eq!(kubelet_serving(&both, &serving), Err("Email subjectAltNames are not allowed".into()));
    }

    #[test]
    fn what_a_client_certificate_may_be_used_for() {
        assert_eq!(client(&BTreeSet::from(["client auth", "key encipherment"])), Ok(()));
        let wrong = client(&BTreeSet::from(["client auth", "server auth"]));
        assert_eq!(wrong, Err("invalid usage for client certificate: server auth".into()));
        let missing = client(&BTreeSet::from(["digital signature"]));
        assert_eq!(missing, Err("missing required usage for client certificate: client auth".into()));
    }
}
