//! Role-based access control: which rules apply to a user, and whether one of them allows a request.
//!
//! kubernetes/kubernetes plugin/pkg/auth/authorizer/rbac/rbac.go and pkg/registry/rbac/validation/rule.go decide so.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

use crate::attributes::{Attributes, Decision, UserInfo};

/// The roles and bindings there are. The API server answers from its caches.
pub trait RoleView {
    fn cluster_role(&self, name: &str) -> Option<Arc<ClusterRole>>;
    fn role(&self, namespace: &str, name: &str) -> Option<Arc<Role>>;
    fn cluster_role_bindings(&self) -> Vec<Arc<ClusterRoleBinding>>;
    fn role_bindings(&self, namespace: &str) -> Vec<Arc<RoleBinding>>;
}

/// Whether RBAC allows the request. It never denies: what no rule allows it has no opinion on.
pub fn authorize(view: &dyn RoleView, request: &Attributes) -> Decision {
    if request.user.in_group("system:masters") {
        return Decision::Allow(String::new());
    }
    let mut answer = None;
    visit_rules(view, request.user, request.namespace, &mut |granted| {
        if rule_allows(granted.rule, request) {
            answer = Some(granted.reason());
            return false;
        }
        true
    });
    answer.map_or_else(|| Decision::NoOpinion(String::new()), Decision::Allow)
}

/// Every rule that applies to the user in a namespace (cluster-wide ones only, when it is empty): what
/// `SelfSubjectRulesReview` shows and what escalation checks compare with.
pub fn rules_for(view: &dyn RoleView, user: &UserInfo, namespace: &str) -> Vec<PolicyRule> {
    let mut rules = Vec::new();
    visit_rules(view, user, namespace, &mut |granted| {
        rules.push(granted.rule.clone());
        true
    });
    rules
}

/// Rules of `wanted` that `owned` does not cover, one atom each; empty means that granting them is no escalation.
///
/// kubernetes/kubernetes staging/src/k8s.io/component-helpers/auth/rbac/validation/policy_comparator.go: Covers
pub fn uncovered(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    wanted.iter().flat_map(atoms).filter(|atom| !owned.iter().any(|rule| covers(rule, atom))).collect()
}

struct Granted<'a> {
    rule: &'a PolicyRule,
    binding: &'a str,
    namespace: Option<&'a str>,
    role: &'a RoleRef,
    subject: &'a Subject,
}

impl Granted<'_> {
    fn reason(&self) -> String {
        let subject = match self.subject.kind.as_str() {
            "ServiceAccount" => {
                format!(
                    "ServiceAccount {:?}",
                    format!("{}/{}", self.subject.name, self.subject.namespace.as_deref().unwrap_or(""))
                )
            }
            kind => format!("{kind} {:?}", self.subject.name),
        };
        let role = format!("{} {:?}", self.role.kind, self.role.name);
        match self.namespace {
            None => format!("RBAC: allowed by ClusterRoleBinding {:?} of {role} to {subject}", self.binding),
            Some(ns) => {
                format!("RBAC: allowed by RoleBinding {:?} of {role} to {subject}", format!("{}/{ns}", self.binding))
            }
        }
    }
}

/// Calls `visit` with each applicable rule until it answers false.
fn visit_rules(view: &dyn RoleView, user: &UserInfo, namespace: &str, visit: &mut dyn FnMut(Granted) -> bool) {
    for binding in view.cluster_role_bindings() {
        let Some(subject) = matching_subject(binding.subjects.as_deref(), user, "") else { continue };
        let Some(role) = view.cluster_role(&binding.role_ref.name) else { continue };
        for rule in role.rules.iter().flatten() {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            if !visit(Granted { rule, binding: name, namespace: None, role: &binding.role_ref, subject }) {
                return;
            }
        }
    }
    if namespace.is_empty() {
        return;
    }
    for binding in view.role_bindings(namespace) {
        let Some(subject) = matching_subject(binding.subjects.as_deref(), user, namespace) else { continue };
        let (cluster, role);
        let rules = if binding.role_ref.kind == "ClusterRole" {
            cluster = view.cluster_role(&binding.role_ref.name);
            cluster.as_ref().and_then(|r| r.rules.as_deref())
        } else {
            role = view.role(namespace, &binding.role_ref.name);
            role.as_ref().and_then(|r| r.rules.as_deref())
        };
        for rule in rules.unwrap_or_default() {
            let name = binding.metadata.name.as_deref().unwrap_or_default();
            if !visit(Granted { rule, binding: name, namespace: Some(namespace), role: &binding.role_ref, subject }) {
                return;
            }
        }
    }
}

fn matching_subject<'a>(subjects: Option<&'a [Subject]>, user: &UserInfo, namespace: &str) -> Option<&'a Subject> {
    subjects.unwrap_or_default().iter().find(|subject| match subject.kind.as_str() {
        "User" => subject.name == user.name,
        "Group" => user.in_group(&subject.name),
        "ServiceAccount" => {
            let of = subject.namespace.as_deref().filter(|ns| !ns.is_empty()).unwrap_or(namespace);
            !of.is_empty() && user.service_account() == Some((of, subject.name.as_str()))
        }
        _ => false,
    })
}

fn has(list: Option<&[String]>, item: &str) -> bool {
    list.unwrap_or_default().iter().any(|x| x == item)
}

fn has_or_all(list: Option<&[String]>, item: &str) -> bool {
    list.unwrap_or_default().iter().any(|x| x == "*" || x == item)
}

/// Whether one rule allows the request.
pub fn rule_allows(rule: &PolicyRule, request: &Attributes) -> bool {
    if !has_or_all(Some(&rule.verbs), request.verb) {
        return false;
    }
    if !request.is_resource() {
        return rule.non_resource_urls.iter().flatten().any(|url| path_matches(url, request.path));
    }
    let names = rule.resource_names.as_deref().unwrap_or_default();
    has_or_all(rule.api_groups.as_deref(), request.group)
        && resource_matches(rule.resources.as_deref(), request.resource, request.subresource)
        && (names.is_empty() || names.iter().any(|n| n == request.name))
}

fn resource_matches(resources: Option<&[String]>, resource: &str, subresource: &str) -> bool {
    resources.unwrap_or_default().iter().any(|r| {
        if r == "*" {
            return true;
        }
        match (r.split_once('/'), subresource) {
            (None, "") => r == resource,
            (Some((on, sub)), wanted) if !wanted.is_empty() => (on == resource || on == "*") && sub == wanted,
            _ => false,
        }
    })
}

fn path_matches(url: &str, path: &str) -> bool {
    url == "*" || url == path || url.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// Splits a rule into rules of one verb and one resource (and name) or path each.
fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    for verb in &rule.verbs {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let atom = PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    ..PolicyRule::default()
                };
                match rule.resource_names.as_deref() {
                    None | Some([]) => out.push(atom),
                    Some(names) => out.extend(
                        names.iter().map(|n| PolicyRule { resource_names: Some(vec![n.clone()]), ..atom.clone() }),
                    ),
                }
            }
        }
        for url in rule.non_resource_urls.iter().flatten() {
            out.push(PolicyRule {
                verbs: vec![verb.clone()],
                non_resource_urls: Some(vec![url.clone()]),
                ..PolicyRule::default()
            });
        }
    }
    out
}

/// Whether `owner` allows all that the atom does.
fn covers(owner: &PolicyRule, atom: &PolicyRule) -> bool {
    if !atom.verbs.iter().all(|v| has_or_all(Some(&owner.verbs), v)) {
        return false;
    }
    if let Some(urls) = atom.non_resource_urls.as_deref() {
        let owned = owner.non_resource_urls.as_deref().unwrap_or_default();
        return urls.iter().all(|url| owned.iter().any(|o| path_matches(o, url)));
    }
    let groups = atom.api_groups.as_deref().unwrap_or_default();
    let resources = atom.resources.as_deref().unwrap_or_default();
    let names = atom.resource_names.as_deref().unwrap_or_default();
    let owner_names = owner.resource_names.as_deref().unwrap_or_default();
    groups.iter().all(|g| has_or_all(owner.api_groups.as_deref(), g))
        && resources.iter().all(|r| resource_covered(owner.resources.as_deref(), r))
        && (owner_names.is_empty() || (!names.is_empty() && names.iter().all(|n| has(Some(owner_names), n))))
}

fn resource_covered(owned: Option<&[String]>, resource: &str) -> bool {
    if has_or_all(owned, resource) {
        return true;
    }
    resource.split_once('/').is_some_and(|(_, sub)| has(owned, &format!("*/{sub}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    struct Roles(Vec<Arc<ClusterRole>>, Vec<Arc<ClusterRoleBinding>>, Vec<Arc<RoleBinding>>);
    impl RoleView for Roles {
        fn cluster_role(&self, name: &str) -> Option<Arc<ClusterRole>> {
            self.0.iter().find(|r| r.metadata.name.as_deref() == Some(name)).cloned()
        }
        fn role(&self, _: &str, _: &str) -> Option<Arc<Role>> {
            None
        }
        fn cluster_role_bindings(&self) -> Vec<Arc<ClusterRoleBinding>> {
            self.1.clone()
        }
        fn role_bindings(&self, namespace: &str) -> Vec<Arc<RoleBinding>> {
            self.2.iter().filter(|b| b.metadata.namespace.as_deref() == Some(namespace)).cloned().collect()
        }
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|s| (*s).to_owned()).collect()
    }

    fn rule(verbs: &[&str], resources: &[&str], names: &[&str]) -> PolicyRule {
        PolicyRule {
            verbs: list(verbs),
            api_groups: Some(list(&[""])),
            resources: Some(list(resources)),
            resource_names: (!names.is_empty()).then(|| list(names)),
            non_resource_urls: None,
        }
    }

    fn view() -> Roles {
        let role = ClusterRole {
            metadata: ObjectMeta { name: Some("reader".into()), ..Default::default() },
            rules: Some(vec![rule(&["get"], &["pods", "*/status"], &[]), rule(&["update"], &["secrets"], &["mine"])]),
            aggregation_rule: None,
        };
        let role_ref = RoleRef { kind: "ClusterRole".into(), name: "reader".into(), ..Default::default() };
        let binding = RoleBinding {
            metadata: ObjectMeta { name: Some("b".into()), namespace: Some("ns".into()), ..Default::default() },
            role_ref: role_ref.clone(),
            subjects: Some(vec![Subject { kind: "ServiceAccount".into(), name: "sa".into(), ..Default::default() }]),
        };
        let cluster = ClusterRoleBinding {
            metadata: ObjectMeta { name: Some("c".into()), ..Default::default() },
            role_ref,
            subjects: Some(vec![Subject { kind: "Group".into(), name: "devs".into(), ..Default::default() }]),
        };
        Roles(vec![Arc::new(role)], vec![Arc::new(cluster)], vec![Arc::new(binding)])
    }

    fn ask(user: &UserInfo, verb: &str, resource: &str, sub: &str, namespace: &str, name: &str) -> Decision {
        let request = Attributes { verb, resource, subresource: sub, namespace, name, ..Attributes::of(user) };
        authorize(&view(), &request)
    }

    #[test]
    fn a_role_binding_holds_in_its_own_namespace() {
        let sa = UserInfo::new("system:serviceaccount:ns:sa", &[]);
        assert_eq!(
            ask(&sa, "get", "pods", "", "ns", "x"),
            Decision::Allow(
                r#"RBAC: allowed by RoleBinding "b/ns" of ClusterRole "reader" to ServiceAccount "sa/""#.into()
            )
        );
        assert_eq!(ask(&sa, "get", "pods", "", "other", "x"), Decision::NoOpinion(String::new()));
        assert_eq!(ask(&sa, "get", "pods", "log", "ns", "x"), Decision::NoOpinion(String::new()));
        assert!(matches!(ask(&sa, "get", "pods", "status", "ns", "x"), Decision::Allow(_)));
    }

    #[test]
    fn resource_names_limit_a_rule() {
        let dev = UserInfo::new("ann", &["devs"]);
        assert!(matches!(ask(&dev, "update", "secrets", "", "any", "mine"), Decision::Allow(_)));
        assert!(matches!(ask(&dev, "update", "secrets", "", "any", "yours"), Decision::NoOpinion(_)));
    }

    #[test]
    fn granting_more_than_one_has_is_found() {
        let owned = [rule(&["get", "list"], &["pods"], &[])];
        assert!(uncovered(&owned, &[rule(&["get"], &["pods"], &["x"])]).is_empty());
        let missing = uncovered(&owned, &[rule(&["get", "delete"], &["pods"], &[])]);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].verbs, ["delete"]);
    }
}
