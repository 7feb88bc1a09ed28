//! The kinds that upstream has types of, in every version: what a request may name though it is not served, and what another
//! API server may have stored. `cargo xtask facts` writes their names.

use crate::facts::{self, Definition};

/// `apps/v1beta1 Deployment`, sorted.
static NAMES: &str = include_str!("../facts/registered.txt");

/// Stable versions, of which each group serves one or both.
const STABLE: [&str; 2] = ["v1", "v2"];

/// Unserved versions whose messages are not those of the version that is served: upstream converts them. They have no facts,
/// so they are recognized and never read. (A version that merely had more fields is read without those.)
const CHANGED: &[(&str, &str)] = &[
    ("apps/v1beta1", "Deployment"),
    ("authorization.k8s.io/v1beta1", "LocalSubjectAccessReview"),
    ("authorization.k8s.io/v1beta1", "SubjectAccessReview"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice"),
    ("flowcontrol.apiserver.k8s.io/v1beta1", "PriorityLevelConfiguration"),
    ("flowcontrol.apiserver.k8s.io/v1beta2", "PriorityLevelConfiguration"),
    ("networking.k8s.io/v1beta1", "Ingress"),
    ("node.k8s.io/v1alpha1", "RuntimeClass"),
    ("rbac.authorization.k8s.io/v1alpha1", "ClusterRole"),
    ("rbac.authorization.k8s.io/v1alpha1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1alpha1", "Role"),
    ("rbac.authorization.k8s.io/v1alpha1", "RoleBinding"),
    ("resource.k8s.io/v1beta1", "ResourceClaim"),
    ("resource.k8s.io/v1beta1", "ResourceClaimTemplate"),
    ("resource.k8s.io/v1beta1", "ResourceSlice"),
];

/// Whether upstream has a type for it, be it served or not.
pub fn is_registered(api_version: &str, kind: &str) -> bool {
    NAMES.lines().any(|line| line.split_once(' ') == Some((api_version, kind)))
}

/// The facts of a kind in a version that has none of its own: those of a version that is served, where they are the same.
pub(crate) fn same_as_served(api_version: &str, kind: &str) -> Option<&'static Definition> {
    let (group, _) = api_version.split_once('/')?;
    let package = group.split('.').next()?;
    if !is_registered(api_version, kind) || CHANGED.contains(&(api_version, kind)) {
        return None;
    }
    STABLE.iter().find_map(|version| facts::definition(&format!("io.k8s.api.{package}.{version}.{kind}")))
}

/// The version that is served instead of this one; none where this one is, or no other has the same messages.
pub fn served(api_version: &str, kind: &str) -> Option<String> {
    let (group, version) = api_version.split_once('/')?;
    if crate::by_kind(group, version, kind).is_some() {
        return None;
    }
    let (group, version, _) = same_as_served(api_version, kind)?.kinds.first()?;
    Some(format!("{group}/{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_is_known_by_its_name_and_read_where_nothing_changed() {
        assert!(is_registered("apps/v1beta1", "Deployment") && is_registered("v1", "Pod"));
        assert!(!is_registered("apps/v1beta3", "Deployment") && !is_registered("apps/v1beta1", "Deploy"));
        let stored = ("storagemigration.k8s.io/v1beta1", "StorageVersionMigration");
        assert_eq!(served(stored.0, stored.1).as_deref(), Some("storagemigration.k8s.io/v1"));
        assert_eq!(served("apps/v1", "Deployment"), None);
        assert_eq!(served("networking.k8s.io/v1beta1", "Ingress"), None, "its backends were others");
    }
}
