//! What webhooks and policies see of the cluster, and the authorization that their expressions may ask.

use std::fmt;
use std::sync::{Arc, Weak};

use admit::hooks::{Equivalent, Surroundings};
use admit::{Attributes, Decision, UserInfo};
use k8s_openapi::api::core::v1::Namespace;
use machinery::cel;
use machinery::gvk::{GroupResource, GroupVersionResource};
use machinery::status::Status;

use crate::authz;
use crate::server::Inner;

pub struct Around<'a> {
    server: &'a Inner,
}

impl<'a> Around<'a> {
    pub fn new(server: &'a Inner) -> Around<'a> {
        Around { server }
    }
}

impl Surroundings for Around<'_> {
    fn namespace(&self, name: &str) -> Result<Arc<Namespace>, Status> {
        let missing = || Status::not_found(&GroupResource::new("", "namespaces"), name);
        self.server.view().get("", "namespaces", name).ok_or_else(missing)
    }

    /// Versions of one resource are kept under one prefix.
    fn equivalents(&self, resource: &GroupVersionResource, subresource: &str) -> Vec<Equivalent> {
        let catalog = self.server.catalog.load();
        let Some(own) = catalog.find(&resource.group, &resource.version, &resource.resource) else {
            return Vec::new();
        };
        let same = |kind: &&Arc<kinds::Kind>| {
            !own.storage_prefix.is_empty() && kind.storage_prefix == own.storage_prefix && kind.version != own.version
                || kind.storage_prefix == own.storage_prefix && kind.group != own.group
        };
        let others = catalog.all().iter().filter(same);
        others
            .map(|kind| Equivalent {
                resource: GroupVersionResource::new(
                    kind.group.as_ref(),
                    kind.version.as_ref(),
                    kind.names.plural.as_ref(),
                ),
                kind: kind.speaks(subresource),
            })
            .collect()
    }
}

/// Answers for one user. It outlives no request, but expressions' values know no lifetimes.
struct Authorizer {
    server: Weak<Inner>,
    user: UserInfo,
}

impl fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "authorizer of {}", self.user.name)
    }
}

pub fn authorizer(server: &Arc<Inner>, user: &UserInfo) -> Arc<dyn cel::Authorizer> {
    Arc::new(Authorizer { server: Arc::downgrade(server), user: user.clone() })
}

impl cel::Authorizer for Authorizer {
    fn decide(&self, check: &cel::Check) -> cel::Decision {
        let Some(server) = self.server.upgrade() else { return cel::Decision::default() };
        let attributes = Attributes {
            verb: &check.verb,
            group: &check.group,
            version: "*",
            resource: &check.resource,
            subresource: &check.subresource,
            namespace: &check.namespace,
            name: &check.name,
            path: &check.path,
            ..Attributes::of(&self.user)
        };
        match authz::decide(&server, &attributes) {
            Decision::Allow(reason) => cel::Decision { allowed: true, reason, error: None },
            Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                cel::Decision { allowed: false, reason, error: None }
            }
        }
    }

    fn of_service_account(&self, namespace: &str, name: &str) -> Arc<dyn cel::Authorizer> {
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
        let user = UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &groups);
        Arc::new(Authorizer { server: self.server.clone(), user })
    }
}
