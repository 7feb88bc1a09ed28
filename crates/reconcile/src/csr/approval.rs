//! Approving the client certificates of kubelets: a request is approved when its author may make such requests.
//!
//! kubernetes/kubernetes pkg/controller/certificates/approver/sarapprove.go: decides which requests are recognised and
//! which permission each needs. Whether the author has it, only the API server can say; so this decision comes in two
//! steps, [`questions`] and [`plan`].

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use serde_json::{Value, json};

use super::{KUBELET_CLIENT, conditions, has, issued, kubelet_client, usages};
use crate::plan::{Action, Plan, Subresource, Verb, value};
use crate::ports::{CertificateAuthority, RequestedCertificate};

pub const NAME: &str = "certificatesigningrequest-approving-controller";
pub const ACCOUNT: &str = "certificate-controller";

/// A permission that would have the request approved.
#[derive(Debug)]
pub struct Question {
    pub subresource: &'static str,
    message: &'static str,
}

const SELF: Question = Question {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const OTHER: Question = Question {
    subresource: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

/// Whether a human or this controller has decided already.
pub fn decided(request: &CertificateSigningRequest) -> bool {
    issued(request) || has(request, "Approved") || has(request, "Denied")
}

/// The permissions to ask for, the first that is granted deciding. None: the request is left to others.
///
/// # Errors
/// The request cannot be read.
pub fn questions(
    request: &CertificateSigningRequest,
    authority: &dyn CertificateAuthority,
) -> Result<Vec<Question>, String> {
    if decided(request) || request.spec.signer_name != KUBELET_CLIENT {
        return Ok(Vec::new());
    }
    Ok(recognized(request, &authority.read(&request.spec.request.0)?))
}

fn recognized(request: &CertificateSigningRequest, asked: &RequestedCertificate) -> Vec<Question> {
    if kubelet_client(asked, &usages(request)).is_err() {
        return Vec::new();
    }
    match request.spec.username.as_deref() == Some(&asked.common_name) {
        true => vec![SELF, OTHER],
        false => vec![OTHER],
    }
}

/// The SubjectAccessReview that asks it of the request's author.
pub fn review(request: &CertificateSigningRequest, question: &Question) -> Value {
    let spec = &request.spec;
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "version": "*", "resource": "certificatesigningrequests",
                "verb": "create", "subresource": question.subresource,
            },
        },
    })
}

/// Approves a request whose author has the permission asked for.
pub fn plan(request: &CertificateSigningRequest, granted: &Question) -> Plan {
    let mut approved = request.clone();
    let mut all = conditions(request).to_vec();
    all.push(CertificateSigningRequestCondition {
        type_: "Approved".into(),
        status: "True".into(),
        reason: Some("AutoApproved".into()),
        message: Some(granted.message.into()),
        ..Default::default()
    });
    approved.status.get_or_insert_default().conditions = Some(all);
    let verb = Verb::Update { object: value(&approved), subresource: Subresource::Approval };
    Plan { actions: vec![Action::on(&approved, verb)], ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(username: &str) -> CertificateSigningRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "r", "resourceVersion": "7"},
            "spec": {
                "request": "", "signerName": KUBELET_CLIENT, "usages": ["digital signature", "client auth"],
                "username": username, "groups": ["system:bootstrappers"],
            },
        }))
        .unwrap()
    }

    fn node() -> RequestedCertificate {
        RequestedCertificate {
            common_name: "system:node:n".into(),
            organizations: vec!["system:nodes".into()],
            ..RequestedCertificate::default()
        }
    }

    #[test]
    fn a_node_asks_for_itself_and_a_newcomer_for_a_node() {
        let asked = |username: &str| -> Vec<&str> {
            recognized(&request(username), &node()).iter().map(|q| q.subresource).collect()
        };
        assert_eq!(asked("system:node:n"), ["selfnodeclient", "nodeclient"]);
        assert_eq!(asked("system:bootstrap:abcdef"), ["nodeclient"]);
        let admin = RequestedCertificate { organizations: vec!["system:masters".into()], ..node() };
        assert!(recognized(&request("system:bootstrap:abcdef"), &admin).is_empty());
    }

    #[test]
    fn approval_is_written_where_only_approvers_may() {
        let text = plan(&request("system:node:n"), &SELF).to_text();
        assert!(text.starts_with("update certificatesigningrequests.certificates.k8s.io r/approval\n"), "{text}");
        assert!(text.contains(r#""reason":"AutoApproved","status":"True","type":"Approved""#), "{text}");
        let review = review(&request("system:bootstrap:abcdef"), &OTHER);
        assert_eq!(review["spec"]["resourceAttributes"]["subresource"], "nodeclient");
        assert_eq!(review["spec"]["groups"], json!(["system:bootstrappers"]));
    }
}
