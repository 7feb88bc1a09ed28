//! Acting as somebody else (`kubectl --as`): each header is a permission of its own.
//!
//! `kubernetes/apiserver pkg/endpoints/filters/impersonation: verbs `impersonate` on users, groups, serviceaccounts, uids
//! and userextras`.

use admit::{Attributes, UserInfo};
use http::{HeaderMap, HeaderName};
use machinery::gvk::GroupResource;
use machinery::status::Status;

use crate::authz;
use crate::request_info::percent_decode;
use crate::server::Inner;

const EXTRA: &str = "impersonate-extra-";

/// The impersonated user, once `user` may be it; `user` itself when no header asks.
pub fn impersonate(server: &Inner, user: UserInfo, headers: &mut HeaderMap) -> Result<UserInfo, Status> {
    let wanted = read(headers);
    if wanted.name.is_empty() {
        if wanted.groups.is_empty() && wanted.uid.is_empty() && wanted.extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::internal(
            "requested [{Group}] without impersonating a user".replace("[{Group}]", &format!("{:?}", wanted.groups)),
        ));
    }
    let account = wanted.service_account().map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    match &account {
        Some((namespace, name)) => check(server, &user, "", "serviceaccounts", "", namespace, name)?,
        None => check(server, &user, "", "users", "", "", &wanted.name)?,
    }
    for group in &wanted.groups {
        check(server, &user, "", "groups", "", "", group)?;
    }
    if !wanted.uid.is_empty() {
        check(server, &user, "authentication.k8s.io", "uids", "", "", &wanted.uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check(server, &user, "authentication.k8s.io", "userextras", key, "", value)?;
        }
    }
    let mut groups = wanted.groups.clone();
    if let (Some((namespace, _)), true) = (&account, groups.is_empty()) {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let mut becomes = UserInfo::new(wanted.name, &groups);
    becomes.uid = wanted.uid;
    becomes.extra = wanted.extra;
    strip(headers);
    Ok(becomes)
}

fn read(headers: &HeaderMap) -> UserInfo {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let mut wanted = UserInfo { name: first("impersonate-user"), uid: first("impersonate-uid"), ..UserInfo::default() };
    wanted.groups = all("impersonate-group");
    for name in headers.keys() {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            wanted.extra.insert(percent_decode(key), all(name.as_str()));
        }
    }
    wanted
}

fn strip(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn check(
    server: &Inner,
    user: &UserInfo,
    group: &str,
    resource: &str,
    subresource: &str,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let verb = "impersonate";
    let attributes =
        Attributes { verb, group, version: "v1", resource, subresource, namespace, name, ..Attributes::of(user) };
    authz::require(server, &attributes, &GroupResource::new(group, resource))
}
