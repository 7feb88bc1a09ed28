//! Admission that users bring along: webhooks, and what they share with admission policies.
//!
//! [`Subject`] is a request as both see it, [`Criteria`] which requests concern them. [`Webhook`] is one webhook as
//! configured; [`review`] is what it is asked and [`verify`] what its answer means. Calling it is the API server's.

mod conditions;
mod criteria;
mod policy;
mod review;
mod webhook;

use k8s_openapi::api::core::v1::Namespace;
use machinery::gvk::{GroupVersionKind, GroupVersionResource};
use machinery::status::Status;
use serde_json::Value;

pub use conditions::{Condition, Conditions, variables};
pub use criteria::{Criteria, Equivalent, Matched};
pub use policy::{Binding, Denial, Policy};
pub use review::{Answer, VERSIONS, review, verify};
pub use webhook::{Client, Configuration, ServicePath, Webhook};

use crate::admission::Operation;
use crate::attributes::UserInfo;

impl Operation {
    /// As rules and reviews write it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

/// A request as webhooks and policies see it.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    pub operation: Operation,
    pub resource: GroupVersionResource,
    pub subresource: &'a str,
    /// The kind of the object that comes with the request, which a subresource may have of its own.
    pub kind: GroupVersionKind,
    /// That of the request; a namespace is in itself.
    pub namespace: &'a str,
    /// Empty while a name is still to be generated.
    pub name: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// `CreateOptions` and the like; null for a connection.
    pub options: &'a Value,
}

impl Subject<'_> {
    /// Configurations of admission are never subject to what they configure, and neither are the questions of
    /// authentication and authorization.
    /// `kubernetes/apiserver pkg/admission/plugin/webhook/predicates/rules: IsExemptAdmissionConfigurationResource`;
    /// `kubernetes/kubernetes pkg/kubeapiserver/admission/exclusion`.
    pub fn is_exempt(&self) -> bool {
        let reviews = ["selfsubjectreviews", "tokenreviews"];
        let accesses = [
            "localsubjectaccessreviews",
            "selfsubjectaccessreviews",
            "selfsubjectrulesreviews",
            "subjectaccessreviews",
        ];
        match &*self.resource.group {
            "admissionregistration.k8s.io" => true,
            "authentication.k8s.io" => reviews.contains(&&*self.resource.resource),
            "authorization.k8s.io" => accesses.contains(&&*self.resource.resource),
            _ => false,
        }
    }
}

/// What must be seen of the cluster to tell whom a request concerns.
pub trait Surroundings {
    /// The namespace as it is stored; an error when there is none.
    fn namespace(&self, name: &str) -> Result<std::sync::Arc<Namespace>, Status>;
    /// The same resource in other versions and groups, and what its kind is there.
    fn equivalents(&self, resource: &GroupVersionResource, subresource: &str) -> Vec<Equivalent>;
}
