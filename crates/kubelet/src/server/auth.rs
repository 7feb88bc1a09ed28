//! Who may use the kubelet's API.
//!
//! kubernetes/kubernetes pkg/kubelet/server/auth.go: a request is asked for as a subresource of the node, by its path;
//! answers are kept for a while, as upstream's webhook authorizer keeps them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

const ALLOWED_FOR: Duration = Duration::from_secs(300);
const REFUSED_FOR: Duration = Duration::from_secs(30);
const TOKEN_KNOWN_FOR: Duration = Duration::from_secs(120);
const REMEMBERED_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

/// The user that a client certificate names: its common name, and its organizations as groups.
pub(super) fn user_of(certificate: &[u8]) -> Option<User> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_string)).collect();
    Some(User { name, groups })
}

type Question = (User, String, String);

pub(super) struct Authorizer {
    client: kube::Client,
    node: String,
    answers: Mutex<HashMap<Question, (bool, Instant)>>,
    tokens: Mutex<HashMap<String, (User, Instant)>>,
}

impl Authorizer {
    pub(super) fn new(client: kube::Client, node: &str) -> Authorizer {
        Authorizer { client, node: node.into(), answers: Mutex::default(), tokens: Mutex::default() }
    }

    /// The user of a bearer token, by the API server's word.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Option<User> {
        let header = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        let token = header.strip_prefix("Bearer ")?.trim().to_string();
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&token).cloned();
        if let Some((user, _)) = known.filter(|(_, at)| at.elapsed() < TOKEN_KNOWN_FOR) {
            return Some(user);
        }
        let spec = TokenReviewSpec { token: token.clone(), ..TokenReviewSpec::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = api.create(&PostParams::default(), &review).await.ok()?.status?;
        let info = status.user.filter(|_| status.authenticated == Some(true))?;
        let user = User { name: info.username.unwrap_or_default(), groups: info.groups.unwrap_or_default() };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= REMEMBERED_MAX {
            tokens.clear();
        }
        tokens.insert(token, (user.clone(), Instant::now()));
        Some(user)
    }

    /// # Errors
    /// Not allowed; the text is upstream's.
    pub(super) async fn allow(&self, user: &User, method: &Method, path: &str) -> Result<(), String> {
        // The API server's own client, and masters, need no review: these two must also work when the API server, which
        // would have to answer it, is what is being looked at.
        if user.groups.iter().any(|group| group == "system:masters") {
            return Ok(());
        }
        let (verb, subresource) = (verb(method), subresource(path));
        let question = (user.clone(), verb.to_string(), subresource.to_string());
        let known = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(&question).copied();
        let fresh = |(allowed, at): &(bool, Instant)| at.elapsed() < if *allowed { ALLOWED_FOR } else { REFUSED_FOR };
        let allowed = match known.filter(fresh) {
            Some((allowed, _)) => allowed,
            None => {
                let allowed = self.review(user, verb, subresource).await?;
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                if answers.len() >= REMEMBERED_MAX {
                    answers.clear();
                }
                answers.insert(question, (allowed, Instant::now()));
                allowed
            }
        };
        if allowed {
            return Ok(());
        }
        Err(format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{subresource}])\n", user.name))
    }

    async fn review(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, String> {
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.into()),
            name: Some(self.node.clone()),
            ..ResourceAttributes::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| format!("Authorization error: {}\n", crate::api_error(&error)))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

fn subresource(path: &str) -> &'static str {
    match path.trim_start_matches('/').split('/').next().unwrap_or_default() {
        "stats" => "stats",
        "metrics" => "metrics",
        "logs" => "log",
        "checkpoint" => "checkpoint",
        "pods" | "runningpods" => "pods",
        "healthz" => "healthz",
        "configz" => "configz",
        _ => "proxy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_the_node() {
        assert_eq!(subresource("/stats/summary"), "stats");
        assert_eq!(subresource("/containerLogs/ns/p/c"), "proxy");
        assert_eq!(subresource("/metrics/cadvisor"), "metrics");
    }
}
