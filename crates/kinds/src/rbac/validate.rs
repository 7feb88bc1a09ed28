//! What roles share, and what bindings share.
//!
//! `kubernetes/kubernetes pkg/apis/rbac/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;
use serde_json::Value;

use crate::validate::{At, shown};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The rules of a role, which in a namespace has no say about URLs.
pub fn rules(rules: &At, namespaced: bool, errors: &mut FieldErrors) {
    for rule in rules.items() {
        rule.field("verbs").must_be_set(errors);
        let [urls, groups, resources, resource_names] =
            ["nonResourceURLs", "apiGroups", "resources", "resourceNames"].map(|name| rule.field(name));
        if !urls.is_empty() {
            if namespaced {
                urls.invalid(errors, "namespaced rules cannot apply to non-resource URLs");
            }
            if !(groups.is_empty() && resources.is_empty() && resource_names.is_empty()) {
                urls.invalid(errors, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.is_empty() {
            groups.required(errors, "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            resources.required(errors, "resource rules must supply at least one resource");
        }
    }
}

/// A binding, whose role stays.
pub fn binding(binding: &Value, old: Option<&Value>, namespaced: bool, errors: &mut FieldErrors) {
    let at = At::root(binding);
    let role = at.field("roleRef");
    role.field("apiGroup").one_of(&[GROUP], errors);
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    role.field("kind").one_of(kinds, errors);
    let name = role.field("name");
    if name.must_be_set(errors) {
        name.invalid_each(errors, names::path_segment(name.text(), false));
    }
    at.field("subjects").items().for_each(|at| subject(&at, namespaced, errors));
    if let Some(old) = old {
        let keys = [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")];
        if role.value != &old["roleRef"] {
            let fields = keys.map(|(shown, key)| format!("\"{shown}\":{}", role.field(key).value));
            let shown = shown(format!("{{{}}}", fields.join(",")));
            errors.push(FieldError::invalid(&role.path, shown, "field is immutable"));
        }
    }
}

fn subject(at: &At, namespaced: bool, errors: &mut FieldErrors) {
    let [kind, name, group, namespace] = ["kind", "name", "apiGroup", "namespace"].map(|name| at.field(name));
    name.must_be_set(errors);
    match kind.text() {
        "ServiceAccount" => {
            if !name.is_empty() {
                name.invalid_each(errors, names::dns1123_subdomain(name.text()));
            }
            if !group.is_empty() {
                group.one_of(&[""], errors);
            }
            if !namespaced {
                namespace.must_be_set(errors);
            }
        }
        "User" | "Group" => {
            group.one_of(&[GROUP], errors);
        }
        _ => {
            kind.one_of(&["ServiceAccount", "User", "Group"], errors);
        }
    }
}
