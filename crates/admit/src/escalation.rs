//! Nobody hands out permissions that they do not hold: what a write of a role or of a binding must not grant.
//!
//! kubernetes/kubernetes pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased/storage.go

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;
use machinery::gvk::GroupResource;
use machinery::status::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::attributes::{Attributes, UserInfo};
use crate::rbac::{RoleView, rules_for, uncovered};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Whose write it is, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    pub user: &'a UserInfo,
    pub group: &'a str,
    pub resource: &'a str,
    pub namespace: &'a str,
    /// The name on the URL, empty on create.
    pub name: &'a str,
}

/// What the check must see.
pub trait GrantView: RoleView {
    /// The whole chain of authorizers.
    fn allowed(&self, request: &Attributes) -> bool;
}

/// 403 when the object, a role or a binding, would grant what its writer lacks. Others pass.
pub fn check(view: &dyn GrantView, grant: &Grant, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    // The members of system:masters may do anything, and it is their group that allows it, not a rule.
    if grant.group != GROUP || grant.user.in_group("system:masters") {
        return Ok(());
    }
    if old.is_some_and(|old| differ_for_the_collector_only(new, old)) {
        return Ok(());
    }
    match grant.resource {
        "roles" | "clusterroles" => role(view, grant, new, old),
        "rolebindings" | "clusterrolebindings" => binding(view, grant, new),
        _ => Ok(()),
    }
}

/// kubernetes/kubernetes pkg/registry/rbac/helpers.go: IsOnlyMutatingGCFields
fn differ_for_the_collector_only(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        for field in ["ownerReferences", "finalizers", "selfLink", "managedFields"] {
            machinery::object::take(&mut object, &["metadata", field]);
        }
        object
    };
    rest(new) == rest(old)
}

fn role(view: &dyn GrantView, grant: &Grant, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    if asks(view, grant, "escalate", grant.resource, grant.name) {
        return Ok(());
    }
    let rules: Vec<PolicyRule> = read(&new["rules"])?;
    confirm(view, grant, new, &rules)?;
    let aggregates = |role: &Value| {
        role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array).is_some_and(|s| !s.is_empty())
    };
    // An aggregation rule may gather anything.
    if (aggregates(new) || old.is_some_and(aggregates)) && confirm(view, grant, new, &full_authority()).is_err() {
        return Err(forbidden(grant, new, "must have cluster-admin privileges to use the aggregationRule"));
    }
    Ok(())
}

fn full_authority() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    [
        PolicyRule { verbs: all(), api_groups: Some(all()), resources: Some(all()), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: Some(all()), ..PolicyRule::default() },
    ]
}

fn binding(view: &dyn GrantView, grant: &Grant, new: &Value) -> Result<(), Status> {
    let text = |field: &str| new["roleRef"][field].as_str().unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    let (resource, rules) = match kind {
        "ClusterRole" => ("clusterroles", view.cluster_role(name).map(|role| role.rules.clone())),
        "Role" => ("roles", view.role(grant.namespace, name).map(|role| role.rules.clone())),
        _ => return Err(Status::failure(500, "", format!("unsupported role reference kind: {kind:?}"))),
    };
    if asks(view, grant, "bind", resource, name) {
        return Ok(());
    }
    let rules = rules.ok_or_else(|| Status::not_found(&GroupResource::new(GROUP, resource), name))?;
    confirm(view, grant, new, &rules.unwrap_or_default())
}

fn asks(view: &dyn GrantView, grant: &Grant, verb: &str, resource: &str, name: &str) -> bool {
    let (user, namespace) = (grant.user, grant.namespace);
    view.allowed(&Attributes { verb, group: GROUP, version: "*", resource, namespace, name, ..Attributes::of(user) })
}

/// kubernetes/kubernetes pkg/registry/rbac/validation/rule.go: ConfirmNoEscalation
fn confirm(view: &dyn GrantView, grant: &Grant, new: &Value, rules: &[PolicyRule]) -> Result<(), Status> {
    let missing = uncovered(&rules_for(view, grant.user, grant.namespace), rules);
    if missing.is_empty() {
        return Ok(());
    }
    let lines: BTreeSet<String> = compact(missing).iter().map(shown).collect();
    let words = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        grant.user.name,
        quoted(&grant.user.groups),
        lines.into_iter().collect::<Vec<_>>().join("\n")
    );
    Err(forbidden(grant, new, &words))
}

/// Puts the verbs of one resource (and name) together again.
/// kubernetes/kubernetes pkg/registry/rbac/validation/policy_compact.go: CompactRules
fn compact(atoms: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut whole = Vec::new();
    let mut by_resource: BTreeMap<_, PolicyRule> = BTreeMap::new();
    for atom in atoms {
        if atom.non_resource_urls.is_some() {
            whole.push(atom);
            continue;
        }
        let key = (atom.api_groups.clone(), atom.resources.clone(), atom.resource_names.clone());
        match by_resource.get_mut(&key) {
            Some(rule) => rule.verbs.extend(atom.verbs),
            None => drop(by_resource.insert(key, atom)),
        }
    }
    whole.extend(by_resource.into_values());
    whole
}

/// kubernetes/kubernetes pkg/apis/rbac/v1/evaluation_helpers.go: CompactString
fn shown(rule: &PolicyRule) -> String {
    let lists = [
        ("APIGroups", rule.api_groups.as_deref()),
        ("Resources", rule.resources.as_deref()),
        ("NonResourceURLs", rule.non_resource_urls.as_deref()),
        ("ResourceNames", rule.resource_names.as_deref()),
        ("Verbs", Some(rule.verbs.as_slice())),
    ];
    let lists = lists.into_iter().filter_map(|(name, list)| Some((name, list.filter(|list| !list.is_empty())?)));
    let parts: Vec<String> = lists.map(|(name, list)| format!("{name}:{}", quoted(list))).collect();
    format!("{{{}}}", parts.join(", "))
}

/// A list of strings as Go's `%q` writes it.
fn quoted(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|item| machinery::go::quote(item)).collect();
    format!("[{}]", items.join(" "))
}

fn forbidden(grant: &Grant, new: &Value, words: &str) -> Status {
    Status::forbidden(&GroupResource::new(GROUP, grant.resource), machinery::object::name(new), words)
}

fn read<T: DeserializeOwned + Default>(value: &Value) -> Result<T, Status> {
    if value.is_null() {
        return Ok(T::default());
    }
    T::deserialize(value).map_err(|error| Status::bad_request(format!("the rules cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
    use serde_json::json;

    use super::*;
    use crate::attributes::Decision;
    use crate::rbac::authorize;

    /// Bob has one cluster role.
    struct Bob(Value);

    impl RoleView for Bob {
        fn cluster_role(&self, name: &str) -> Option<Arc<ClusterRole>> {
            let rules = match name {
                "bobs" => self.0.clone(),
                "secrets" => json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
                _ => return None,
            };
            Some(Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap()))
        }
        fn role(&self, _: &str, _: &str) -> Option<Arc<Role>> {
            None
        }
        fn cluster_role_bindings(&self) -> Vec<Arc<ClusterRoleBinding>> {
            let binding = json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "bobs", "apiGroup": GROUP},
                "subjects": [{"kind": "User", "name": "bob", "apiGroup": GROUP}]});
            vec![Arc::new(serde_json::from_value(binding).unwrap())]
        }
        fn role_bindings(&self, _: &str) -> Vec<Arc<RoleBinding>> {
            Vec::new()
        }
    }

    impl GrantView for Bob {
        fn allowed(&self, request: &Attributes) -> bool {
            matches!(authorize(self, request), Decision::Allow(_))
        }
    }

    fn told(rules: Value, resource: &str, new: &Value, old: Option<&Value>) -> String {
        let user = UserInfo::new("bob", &["devs"]);
        let grant = Grant { user: &user, group: GROUP, resource, namespace: "", name: "" };
        check(&Bob(rules), &grant, new, old).map_or_else(|status| status.message, |()| "allowed".to_owned())
    }

    #[test]
    fn a_role_grants_what_its_writer_has_or_is_refused_with_what_is_missing() {
        let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]);
        let new = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]});
        assert_eq!(told(pods.clone(), "clusterroles", &new, None), "allowed");
        let more = json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": ["", "apps"], "resources": ["pods"], "verbs": ["get", "delete"]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]});
        insta::assert_snapshot!(told(pods.clone(), "clusterroles", &more, None), @r#"
        clusterroles.rbac.authorization.k8s.io "r" is forbidden: user "bob" (groups=["devs" "system:authenticated"]) is attempting to grant RBAC permissions not currently held:
        {APIGroups:[""], Resources:["pods"], Verbs:["delete"]}
        {APIGroups:["apps"], Resources:["pods"], Verbs:["get" "delete"]}
        {NonResourceURLs:["/metrics"], Verbs:["get"]}
        "#);
        let mut collected = more.clone();
        collected["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
        assert_eq!(told(pods.clone(), "clusterroles", &collected, Some(&more)), "allowed");
        let escalate = json!([{"apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": ["escalate"]}]);
        assert_eq!(told(escalate, "clusterroles", &more, None), "allowed");
        let aggregates = json!({"metadata": {"name": "r"}, "aggregationRule": {"clusterRoleSelectors": [{}]}});
        let words = "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: must have cluster-admin privileges to use the aggregationRule";
        assert_eq!(told(pods.clone(), "clusterroles", &aggregates, None), words);
        assert_eq!(told(pods, "clusterroles", &new, Some(&aggregates)), words);
    }

    #[test]
    fn a_binding_needs_bind_or_all_that_the_role_grants() {
        let binding = |name: &str| json!({"metadata": {"name": "x"}, "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name}});
        let bind = json!([{"apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["secrets"], "verbs": ["bind"]}]);
        assert_eq!(told(bind.clone(), "clusterrolebindings", &binding("secrets"), None), "allowed");
        let own = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"]}]);
        assert_eq!(told(own, "rolebindings", &binding("secrets"), None), "allowed");
        let nothing = told(json!([]), "clusterrolebindings", &binding("secrets"), None);
        assert!(nothing.ends_with("\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"), "{nothing}");
        let missing = told(bind, "clusterrolebindings", &binding("none"), None);
        assert_eq!(missing, "clusterroles.rbac.authorization.k8s.io \"none\" not found");
    }
}
