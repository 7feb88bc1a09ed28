//! Defaults of a pod's spec and what is in it, wherever a pod template may stand.

use serde_json::{Map, Value};

use super::{Fields, Rule, is_missing, set_missing, set_unset, text_of};

/// The mode of files in volumes made of API objects, 0644.
const VOLUME_MODE: i64 = 420;

pub(super) fn rule(package: &str, name: &str) -> Option<Rule> {
    if package != "io.k8s.api.core.v1" {
        return None;
    }
    Some(match name {
        "PodSpec" => pod_spec,
        "Container" | "EphemeralContainer" => container,
        "Probe" => probe,
        "HTTPGetAction" => http_get,
        "Volume" => volume,
        "SecretVolumeSource" | "ConfigMapVolumeSource" | "DownwardAPIVolumeSource" | "ProjectedVolumeSource" => {
            |fields| set_missing(fields, "defaultMode", VOLUME_MODE)
        }
        "ServiceAccountTokenProjection" => |fields| set_missing(fields, "expirationSeconds", 3600),
        "HostPathVolumeSource" => |fields| set_missing(fields, "type", ""),
        "ObjectFieldSelector" => |fields| set_unset(fields, "apiVersion", "v1"),
        "ISCSIVolumeSource" | "ISCSIPersistentVolumeSource" => |fields| set_unset(fields, "iscsiInterface", "default"),
        "RBDVolumeSource" | "RBDPersistentVolumeSource" => rbd,
        "AzureDiskVolumeSource" => azure_disk,
        "ScaleIOVolumeSource" => |fields| scale_io(fields, "xfs"),
        "ScaleIOPersistentVolumeSource" => |fields| scale_io(fields, "xfs"),
        _ => return None,
    })
}

fn pod_spec(spec: &mut Fields) {
    let account = match text_of(spec, "serviceAccountName") {
        "" => text_of(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !account.is_empty() {
        for name in ["serviceAccountName", "serviceAccount"] {
            spec.insert(name.to_owned(), Value::from(account.as_str()));
        }
    }
    set_unset(spec, "dnsPolicy", "ClusterFirst");
    set_unset(spec, "restartPolicy", "Always");
    set_missing(spec, "securityContext", Map::new());
    set_missing(spec, "terminationGracePeriodSeconds", 30);
    set_unset(spec, "schedulerName", "default-scheduler");
}

fn container(container: &mut Fields) {
    let policy = if image_is_latest(text_of(container, "image")) { "Always" } else { "IfNotPresent" };
    set_unset(container, "imagePullPolicy", policy);
    set_unset(container, "terminationMessagePath", "/dev/termination-log");
    set_unset(container, "terminationMessagePolicy", "File");
}

/// Whether an image reference means the tag `latest`, by name or because it has neither tag nor digest.
///
/// `kubernetes/kubernetes pkg/util/parsers`: a reference that cannot be parsed has no tag, so it is not `latest`.
/// The longest name of a repository.
/// `distribution/reference reference.go: RepositoryNameTotalLengthMax`.
const IMAGE_NAME_MAX: usize = 255;

pub fn image_is_latest(reference: &str) -> bool {
    if reference.is_empty() || reference.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return false;
    }
    // What is no reference has no tag either.
    if reference.split([':', '@']).next().is_some_and(|name| name.len() > IMAGE_NAME_MAX) {
        return false;
    }
    let (name, has_digest) = match reference.split_once('@') {
        Some((name, _)) => (name, true),
        None => (reference, false),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let path_is_valid = name.rsplit_once('/').map_or(name, |(_, last)| last);
    if path_is_valid.split(':').next().unwrap_or_default().bytes().any(|byte| byte.is_ascii_uppercase()) {
        return false;
    }
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !has_digest,
    }
}

fn probe(probe: &mut Fields) {
    set_unset(probe, "timeoutSeconds", 1);
    set_unset(probe, "periodSeconds", 10);
    set_unset(probe, "successThreshold", 1);
    set_unset(probe, "failureThreshold", 3);
}

fn http_get(action: &mut Fields) {
    set_unset(action, "path", "/");
    set_unset(action, "scheme", "HTTP");
}

fn volume(volume: &mut Fields) {
    if volume.iter().all(|(name, source)| name == "name" || source.is_null()) {
        volume.insert("emptyDir".to_owned(), Value::Object(Map::new()));
    }
    if let Some(image) = super::existing(volume, "image") {
        let policy = if image_is_latest(text_of(image, "reference")) { "Always" } else { "IfNotPresent" };
        set_unset(image, "pullPolicy", policy);
    }
}

fn rbd(source: &mut Fields) {
    set_unset(source, "pool", "rbd");
    set_unset(source, "user", "admin");
    set_unset(source, "keyring", "/etc/ceph/keyring");
}

fn azure_disk(source: &mut Fields) {
    for (name, value) in [("cachingMode", "ReadWrite"), ("kind", "Shared"), ("fsType", "ext4")] {
        set_missing(source, name, value);
    }
    if is_missing(source, "readOnly") {
        source.insert("readOnly".to_owned(), Value::from(false));
    }
}

fn scale_io(source: &mut Fields, file_system: &str) {
    set_unset(source, "storageMode", "ThinProvisioned");
    set_unset(source, "fsType", file_system);
}

#[cfg(test)]
mod tests {
    use super::image_is_latest;

    #[test]
    fn only_a_bare_name_or_the_tag_latest_means_latest() {
        for (image, latest) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("localhost:5000/nginx", true),
            ("nginx:1.27", false),
            ("localhost:5000/nginx:1", false),
            ("nginx@sha256:aa", false),
            ("nginx:latest@sha256:aa", true),
            ("", false),
        ] {
            assert_eq!(image_is_latest(image), latest, "{image}");
        }
    }
}
