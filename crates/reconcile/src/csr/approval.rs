//! Approving the certificates of kubelets. A client's is approved when its author may make such requests; a server's, which
//! upstream leaves to others, when a node asks for itself and for no name or address but its own.
//!
//! kubernetes/kubernetes pkg/controller/certificates/approver/sarapprove.go: decides which requests are recognised and
//! which permission each needs. Whether the author has it, only the API server can say; so this decision comes in two
//! steps, [`questions`] and [`plan`]. The other one is [`serving`].

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::{KUBELET_CLIENT, KUBELET_SERVING, conditions, has, issued, kubelet_client, kubelet_serving, usages};
use crate::cache::Cache;
use crate::meta;
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

const SERVING: &str = "Auto approving kubelet serving certificate of the node's own addresses.";

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
    approve(request, granted.message)
}

/// Approves a server's certificate that a node asks for itself. Empty: the request is left to others.
///
/// # Errors
/// A name or an address in it is not, or not yet, the node's, or is a service's or another node's as well.
pub fn serving(
    request: &CertificateSigningRequest,
    authority: &dyn CertificateAuthority,
    cache: &Cache,
) -> Result<Plan, String> {
    if decided(request) || request.spec.signer_name != KUBELET_SERVING {
        return Ok(Plan::default());
    }
    let asked = authority.read(&request.spec.request.0)?;
    if kubelet_serving(&asked, &usages(request)).is_err()
        || request.spec.username.as_deref() != Some(&asked.common_name)
    {
        return Ok(Plan::default());
    }
    let Some(name) = asked.common_name.strip_prefix("system:node:") else { return Ok(Plan::default()) };
    let node = cache.nodes.get("", name).ok_or_else(|| format!("there is no node {name:?} yet"))?;
    let own = addresses(&node);
    // A node writes its own addresses: a name among them could be anybody's.
    if let Some(other) = asked.dns_names.iter().find(|other| *other != name) {
        return Err(format!("{other} is no name of node {name:?}"));
    }
    let wanted: Vec<String> = asked.ip_addresses.iter().map(ToString::to_string).collect();
    if let Some(address) = wanted.iter().find(|address| !own.contains(&address.as_str())) {
        return Err(format!("{address} is no address of node {name:?}"));
    }
    let of_service = |address: &&String| {
        cache.services.all().iter().any(|service| {
            let addresses = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
            addresses.chain(service.spec.iter().flat_map(|spec| &spec.cluster_ip)).any(|ip| ip == *address)
        })
    };
    if let Some(address) = wanted.iter().find(of_service) {
        return Err(format!("{address} is a service's address"));
    }
    for other in cache.nodes.all().iter().filter(|other| meta::name(&other.metadata) != name) {
        let of_other = addresses(other);
        let taken = |address: &&String| of_other.contains(&address.as_str());
        if let Some(address) = wanted.iter().find(taken) {
            return Err(format!("{address} is of node {:?} as well", meta::name(&other.metadata)));
        }
    }
    Ok(approve(request, SERVING))
}

fn addresses(node: &Node) -> Vec<&str> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.map(|address| address.address.as_str()).collect()
}

fn approve(request: &CertificateSigningRequest, message: &str) -> Plan {
    let mut approved = request.clone();
    let mut all = conditions(request).to_vec();
    all.push(CertificateSigningRequestCondition {
        type_: "Approved".into(),
        status: "True".into(),
        reason: Some("AutoApproved".into()),
        message: Some(message.into()),
        ..Default::default()
    });
    approved.status.get_or_insert_default().conditions = Some(all);
    let verb = Verb::Update { object: value(&approved), subresource: Subresource::Approval };
    Plan { actions: vec![Action::on(&approved, verb)], ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::AnyStore;

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

    /// Reads nothing, and says what the test says.
    #[derive(Debug)]
    struct Asks(RequestedCertificate);

    impl CertificateAuthority for Asks {
        fn read(&self, _: &[u8]) -> Result<RequestedCertificate, String> {
            Ok(self.0.clone())
        }
        fn sign(&self, _: &[u8], _: &crate::ports::CertificateTerms) -> Result<String, String> {
            Err("signs nothing".into())
        }
        fn expires(&self, _: &[u8]) -> Option<jiff::Timestamp> {
            None
        }
    }

    #[test]
    fn a_node_serves_under_its_own_addresses_alone() {
        let cache = Cache::default();
        for (name, address) in [("n", "10.0.0.1"), ("other", "10.0.0.2")] {
            let claimed = json!({"type": "ExternalIP", "address": "10.96.0.1"});
            let addresses =
                json!([{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}, claimed]);
            let node = json!({"metadata": {"name": name}, "status": {"addresses": addresses}});
            cache.nodes.apply_json(&node.to_string(), crate::cache::Source::Watch).unwrap();
        }
        let judged = |user: &str, names: &[&str], addresses: &[&str]| {
            let mut request = request(user);
            request.spec.signer_name = KUBELET_SERVING.into();
            request.spec.usages = Some(["digital signature", "server auth"].map(String::from).to_vec());
            let asked = RequestedCertificate {
                dns_names: names.iter().map(|name| (*name).into()).collect(),
                ip_addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
                ..node()
            };
            serving(&request, &Asks(asked), &cache).map(|plan| !plan.actions.is_empty())
        };
        assert_eq!(judged("system:node:n", &["n"], &["10.0.0.1"]), Ok(true));
        assert_eq!(judged("system:node:n", &["localhost"], &[]), Err("localhost is no name of node \"n\"".into()));
        assert_eq!(judged("system:node:n", &[], &["10.0.0.2"]), Err("10.0.0.2 is no address of node \"n\"".into()));
        let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.96.0.1"}});
        cache.services.apply_json(&service.to_string(), crate::cache::Source::Watch).unwrap();
        assert_eq!(judged("system:node:n", &[], &["10.96.0.1"]), Err("10.96.0.1 is a service's address".into()));
        // Others' requests, and those for nothing, are others' to judge.
        assert_eq!(judged("system:node:other", &["n"], &[]), Ok(false));
        assert_eq!(judged("system:node:n", &[], &[]), Ok(false));
        let claims = json!({"metadata": {"name": "thief"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
        cache.nodes.apply_json(&claims.to_string(), crate::cache::Source::Watch).unwrap();
        assert_eq!(judged("system:node:n", &[], &["10.0.0.1"]), Err("10.0.0.1 is of node \"thief\" as well".into()));
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
