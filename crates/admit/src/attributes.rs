//! A request as authorization sees it.

use std::collections::BTreeMap;

use machinery::fields::{FieldSelector, Term};

/// The authenticated user (`authentication.k8s.io/v1 UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct UserInfo {
    #[serde(rename = "username")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with a name and groups; `system:authenticated` is added unless the user is anonymous.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let name = name.into();
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        let implied = if name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
        if !groups.iter().any(|g| g == implied) {
            groups.push(implied.to_owned());
        }
        Self { name, groups, ..Self::default() }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name when the user is a ServiceAccount (`system:serviceaccount:<namespace>:<name>`).
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// The node's name when the user is a kubelet: `system:node:<name>` in group `system:nodes`.
    pub fn node(&self) -> Option<&str> {
        if self.in_group("system:nodes") { self.name.strip_prefix("system:node:") } else { None }
    }
}

/// What a request wants: a verb on a resource, or (`resource` empty) on a path such as `/healthz`.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the HTTP method in lower case.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The request's path; decides only when `resource` is empty.
    pub path: &'a str,
    /// What a list, a watch or a deletecollection is limited to, if it is.
    pub fields: Option<&'a FieldSelector>,
}

impl<'a> Attributes<'a> {
    /// A user's request for nothing yet.
    pub fn of(user: &'a UserInfo) -> Attributes<'a> {
        Attributes {
            user,
            verb: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            fields: None,
        }
    }

    /// Whether only objects with this value in the field are asked for.
    pub fn selects(&self, field: &str, value: &str) -> bool {
        let term = |term: &Term| term.equal && term.field == field && term.value == value;
        self.fields.is_some_and(|fields| fields.terms.iter().any(term))
    }

    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// `pods` or `pods/log`, as a rule's `resources` name it.
    pub fn combined_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// Upstream's words for a refused request, put after `<resource> "<name>" is forbidden: `.
    ///
    /// kubernetes/kubernetes staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go: forbiddenMessage
    pub fn refusal(&self) -> String {
        let user = &self.user.name;
        if !self.is_resource() {
            return format!("User {user:?} cannot {} path {:?}", self.verb, self.path);
        }
        let what = format!(
            "User {user:?} cannot {} resource {:?} in API group {:?}",
            self.verb,
            self.combined_resource(),
            self.group
        );
        if self.namespace.is_empty() {
            format!("{what} at the cluster scope")
        } else {
            format!("{what} in the namespace {:?}", self.namespace)
        }
    }
}

/// An authorizer's answer. `NoOpinion` passes the question on; at the end of the chain it means no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    Deny(String),
    NoOpinion(String),
}
