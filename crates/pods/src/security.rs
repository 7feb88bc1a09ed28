//! The security context of a container after its own and the pod's have been merged.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};

use crate::ports::{Seccomp, Security};

/// kubernetes/kubernetes pkg/securitycontext: the container's field wins over the pod's.
///
/// `seccomp_root` is where `Localhost` profiles lie. Groups are the pod's `fsGroup` and `supplementalGroups`.
pub fn merge(spec: &PodSpec, container: &Container, seccomp_root: &Path) -> Security {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let capabilities = own.capabilities.unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let added = capabilities.add.unwrap_or_default();
    // validation forbids allowPrivilegeEscalation=false with privileged or CAP_SYS_ADMIN, so it may be taken as it is.
    let no_new_privileges = own.allow_privilege_escalation == Some(false);
    Security {
        privileged,
        user: own.run_as_user.or(pod.run_as_user),
        group: own.run_as_group.or(pod.run_as_group),
        supplemental_groups: pod.fs_group.into_iter().chain(pod.supplemental_groups.into_iter().flatten()).collect(),
        supplemental_groups_policy: pod.supplemental_groups_policy,
        must_not_be_root: own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false),
        add_capabilities: added,
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        no_new_privileges,
        seccomp: match (privileged, own.seccomp_profile.or(pod.seccomp_profile)) {
            (true, _) | (false, None) => Seccomp::Unconfined,
            (false, Some(profile)) => seccomp(&profile, seccomp_root),
        },
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    }
}

fn seccomp(profile: &SeccompProfile, root: &Path) -> Seccomp {
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("RuntimeDefault", _) => Seccomp::RuntimeDefault,
        ("Localhost", Some(path)) => Seccomp::Localhost(root.join(PathBuf::from(path))),
        _ => Seccomp::Unconfined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_fields_win_and_groups_come_from_the_pod() {
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "securityContext": {"runAsUser": 1000, "runAsGroup": 3000, "fsGroup": 2000, "supplementalGroups": [4000],
                "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 0, "runAsNonRoot": false,
                "allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}]
        }))
        .unwrap();
        let merged = merge(&spec, &spec.containers[0], Path::new("/seccomp"));
        assert_eq!((merged.user, merged.group, merged.must_not_be_root), (Some(0), Some(3000), false));
        assert_eq!(merged.supplemental_groups, [2000, 4000]);
        assert_eq!((merged.no_new_privileges, merged.seccomp), (true, Seccomp::RuntimeDefault));
        assert_eq!((merged.add_capabilities, merged.drop_capabilities), (vec!["NET_ADMIN".into()], vec!["ALL".into()]));
    }
}
