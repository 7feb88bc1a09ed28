//! Whether the user may do it: the Node authorizer, then RBAC, over the caches.

use admit::{Attributes, Decision, UserInfo, node, rbac};
use machinery::gvk::GroupResource;
use machinery::status::Status;

use crate::request_info::RequestInfo;
use crate::server::Inner;

/// The chain's answer.
pub fn decide(server: &Inner, request: &Attributes<'_>) -> Decision {
    if request.user.in_group("system:masters") {
        return Decision::Allow(String::new());
    }
    let view = server.view();
    let by_node = node::authorize(&view, request);
    if !matches!(by_node, Decision::NoOpinion(_)) {
        return by_node;
    }
    let by_role = rbac::authorize(&view, request);
    match (&by_role, by_node) {
        (Decision::NoOpinion(_), Decision::NoOpinion(reason)) if !reason.is_empty() => Decision::NoOpinion(reason),
        _ => by_role,
    }
}

pub fn allowed(server: &Inner, request: &Attributes<'_>) -> bool {
    matches!(decide(server, request), Decision::Allow(_))
}

/// 403 with upstream's words unless the request is allowed.
pub fn require(server: &Inner, request: &Attributes<'_>, resource: &GroupResource) -> Result<(), Status> {
    match decide(server, request) {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            let mut message = request.refusal();
            if !reason.is_empty() {
                message = format!("{message}: {reason}");
            }
            Err(Status::forbidden(resource, request.name, message))
        }
    }
}

/// What a parsed request asks, as authorization sees it.
pub fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
    Attributes {
        user,
        verb: &info.verb,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
        fields: info.fields.as_ref(),
    }
}
