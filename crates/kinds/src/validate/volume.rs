//! Volumes of a pod, and where its containers mount them.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors, Path};
use machinery::names;
use machinery::object;
use serde_json::Value;

use super::env::{VOLUME_FIELDS, field_ref, resource_field_ref};
use super::resources::amount;
use super::security::id;
use super::selector::label_selector;
use super::{At, claim};

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const MORE_THAN_ONE: &str = "may not specify more than 1 volume type";
/// In the order they are looked at: the first found counts.
const TYPES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The volumes of a pod; answers with the valid ones, by name.
pub fn volumes<'a>(at: &At<'a>, pod: Option<&Value>, errors: &mut FieldErrors) -> Vec<(&'a str, &'a Value)> {
    let pod_name = pod.map(object::name).unwrap_or_default();
    let ephemeral = at.items().filter(|volume| volume.field("ephemeral").is_set());
    let made: Vec<String> = match pod_name {
        "" => Vec::new(),
        pod => ephemeral.map(|volume| format!("{pod}-{}", volume.field("name").text())).collect(),
    };
    let mut valid: Vec<(&str, &Value)> = Vec::new();
    for volume in at.items() {
        let name = volume.field("name");
        let mut found = FieldErrors::new();
        source(&volume, pod_name, &mut found);
        if name.must_be_set(&mut found) {
            name.invalid_each(&mut found, names::dns1123_label(name.text()));
        }
        if valid.iter().any(|(known, _)| *known == name.text()) {
            name.duplicate(&mut found);
        }
        if found.is_empty() {
            valid.push((name.text(), volume.value));
        }
        errors.extend(found);
        let claim = volume.fields(&["persistentVolumeClaim", "claimName"]);
        if made.iter().any(|made| made == claim.text()) {
            claim.invalid(errors, "must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    valid
}

fn source(volume: &At, pod_name: &str, errors: &mut FieldErrors) {
    let mut sources = TYPES.iter().filter_map(|of| Some((*of, volume.set(of)?)));
    let Some((of, source)) = sources.next() else {
        return volume.required(errors, "must specify a volume type");
    };
    match of {
        "emptyDir" => empty_dir(&source, errors),
        "hostPath" => host_path(&source, errors),
        "secret" => object_files(&source, "secretName", errors),
        "configMap" => object_files(&source, "name", errors),
        "downwardAPI" => {
            modes(&source, errors);
            source.field("items").items().for_each(|file| downward_file(&file, &source.path, errors));
        }
        "projected" => {
            modes(&source, errors);
            projected(&source, errors);
        }
        "persistentVolumeClaim" => {
            source.field("claimName").must_be_set(errors);
        }
        "nfs" => nfs(&source, errors),
        "csi" => csi(&source, errors),
        "ephemeral" => {
            ephemeral(&source, errors);
            let name = volume.field("name");
            if !pod_name.is_empty() && !name.is_empty() {
                let claim = format!("{pod_name}-{}", name.text());
                for complaint in names::dns1123_subdomain(&claim) {
                    name.invalid(errors, format!("PVC name {claim:?}: {complaint}"));
                }
            }
        }
        "image" => {
            source.field("reference").must_be_set(errors);
            source.field("pullPolicy").required_one_of(&["Always", "IfNotPresent", "Never"], errors);
        }
        // Volume types of clouds and storage systems this node has no driver for are kept as they are.
        _ => {}
    }
    for (of, more) in sources {
        // Upstream's own spelling.
        let of = match of {
            "downwardAPI" => "downwarAPI",
            "cephfs" => "cephFS",
            of => of,
        };
        more.reported_at(volume.path.child(of)).forbidden(errors, MORE_THAN_ONE);
    }
}

fn empty_dir(at: &At, errors: &mut FieldErrors) {
    let (limit, mode) = (at.field("sizeLimit"), at.field("mode"));
    if limit.is_set() && amount(limit.value).sign() < 0 {
        limit.forbidden(errors, "SizeLimit field must be a valid resource quantity");
    }
    if mode.is_set() && !(0..=0o1777).contains(&mode.int()) {
        mode.invalid(errors, "must be a number between 0 and 01777 (octal), both inclusive");
    }
}

/// A path on the host.
pub fn host_path(at: &At, errors: &mut FieldErrors) {
    let path = at.field("path");
    if path.must_be_set(errors) {
        no_backsteps(&path, errors);
        at.field("type").optional_one_of(HOST_PATH_TYPES, errors);
    }
}

pub fn nfs(at: &At, errors: &mut FieldErrors) {
    let path = at.field("path");
    at.field("server").must_be_set(errors);
    path.must_be_set(errors);
    if !path.text().starts_with('/') {
        path.invalid(errors, "must be an absolute path");
    }
}

fn csi(at: &At, errors: &mut FieldErrors) {
    csi_driver_name(&at.field("driver"), errors);
    if let Some(secret) = at.set("nodePublishSecretRef") {
        let name = secret.field("name");
        if name.must_be_set(errors) {
            errors.invalid_each(&at.path.child("name"), name.text(), names::dns1123_subdomain(name.text()));
        }
    }
}

/// The name of a CSI driver: a subdomain, except that capitals are let through.
pub fn csi_driver_name(at: &At, errors: &mut FieldErrors) {
    if !at.must_be_set(errors) {
        return;
    }
    if at.text().len() > names::DNS_LABEL_MAX {
        errors.push(FieldError::too_long(&at.path, names::DNS_LABEL_MAX));
    }
    at.invalid_each(errors, names::dns1123_subdomain(&at.text().to_lowercase()));
}

fn ephemeral(at: &At, errors: &mut FieldErrors) {
    let Some(template) = at.set("volumeClaimTemplate") else {
        return at.field("volumeClaimTemplate").required(errors, "");
    };
    let metadata = template.field("metadata");
    crate::meta::validate_annotations(
        metadata.field("annotations").value.as_object(),
        &metadata.path.child("annotations"),
        errors,
    );
    super::selector::labels(&metadata.field("labels"), errors);
    for (field, value) in metadata.value.as_object().into_iter().flatten() {
        if !matches!(field.as_str(), "annotations" | "labels") && !crate::facts::is_zero(value) {
            errors.push(FieldError::forbidden(&metadata.path.child(field), "cannot be set"));
        }
    }
    claim::spec(&template.field("spec"), errors);
}

fn mode(at: &At, errors: &mut FieldErrors) {
    if at.is_set() && !(0..=0o777).contains(&at.int()) {
        at.invalid(errors, FILE_MODE);
    }
}

fn modes(at: &At, errors: &mut FieldErrors) {
    mode(&at.field("defaultMode"), errors);
    id(&at.field("defaultUser"), errors);
}

fn object_files(at: &At, name: &str, errors: &mut FieldErrors) {
    at.field(name).must_be_set(errors);
    modes(at, errors);
    at.field("items").items().for_each(|item| key_to_path(&item, errors));
}

fn key_to_path(at: &At, errors: &mut FieldErrors) {
    at.field("key").must_be_set(errors);
    at.field("path").must_be_set(errors);
    local_path(at.field("path").text(), &at.path.child("path"), errors);
    mode(&at.field("mode"), errors);
    id(&at.field("user"), errors);
}

/// A file of the downward API; upstream reports it at the volume, not at the item.
fn downward_file(file: &At, path: &Path, errors: &mut FieldErrors) {
    let file = file.reported_at(path.clone());
    file.field("path").must_be_set(errors);
    local_path(file.field("path").text(), &path.child("path"), errors);
    match (file.set("fieldRef"), file.set("resourceFieldRef")) {
        (Some(field), other) => {
            field_ref(&field, VOLUME_FIELDS, errors);
            if other.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(path, "resource", detail));
            }
        }
        (None, Some(resource)) => resource_field_ref(&resource, true, errors),
        (None, None) => file.required(errors, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(&file.field("mode"), errors);
    id(&file.field("user"), errors);
}

/// Paths in one volume, each taken once.
struct Paths<'a> {
    taken: Vec<&'a str>,
    volume: Path,
}

impl<'a> Paths<'a> {
    fn take(&mut self, path: &'a str, shown: &str, errors: &mut FieldErrors) {
        if path.is_empty() {
            return;
        }
        if self.taken.contains(&path) {
            errors.push(FieldError::invalid(&self.volume, shown, "conflicting duplicate paths"));
        } else {
            self.taken.push(path);
        }
    }
}

fn projected(volume: &At, errors: &mut FieldErrors) {
    let mut paths = Paths { taken: Vec::new(), volume: volume.path.clone() };
    for source in volume.field("sources").items() {
        let mut sources = 0;
        for of in ["secret", "configMap"] {
            let Some(object) = source.set(of) else { continue };
            sources += 1;
            object.field("name").must_be_set(errors);
            for item in object.field("items").items() {
                key_to_path(&item, errors);
                paths.take(item.field("path").text(), object.field("name").text(), errors);
            }
        }
        if let Some(downward) = source.set("downwardAPI") {
            sources += 1;
            for file in downward.field("items").items() {
                downward_file(&file, &downward.path, errors);
                let path = file.field("path").text();
                paths.take(path, path, errors);
            }
        }
        if let Some(token) = source.set("serviceAccountToken") {
            sources += 1;
            service_account_token(&token, &volume.path, errors);
        }
        if let Some(bundle) = source.set("clusterTrustBundle") {
            sources += 1;
            trust_bundle(&bundle, errors);
            paths.take(bundle.field("path").text(), bundle.field("path").text(), errors);
        }
        if let Some(certificate) = source.set("podCertificate") {
            sources += 1;
            pod_certificate(&certificate, &mut paths, errors);
        }
        if sources > 1 {
            source.forbidden(errors, "may not specify more than 1 volume type per source");
        }
    }
}

fn service_account_token(token: &At, volume: &Path, errors: &mut FieldErrors) {
    let seconds = token.field("expirationSeconds");
    if !seconds.is_set() {
        seconds.required(errors, "");
    } else if seconds.int() < 600 {
        seconds.invalid(errors, "may not specify a duration less than 10 minutes");
    } else if seconds.int() > 1 << 32 {
        seconds.invalid(errors, "may not specify a duration larger than 2^32 seconds");
    }
    let path = token.field("path").reported_at(volume.child("path"));
    if path.must_be_set(errors) {
        local_path(path.text(), &path.path, errors);
    }
    id(&token.field("user"), errors);
}

fn trust_bundle(bundle: &At, errors: &mut FieldErrors) {
    let [name, signer, path] = ["name", "signerName", "path"].map(|name| bundle.field(name));
    match (name.is_set(), signer.is_set()) {
        (true, true) => bundle.invalid(errors, "only one of name and signerName may be used"),
        (true, false) => {
            if name.is_empty() {
                name.required(errors, "must be a valid object name");
            }
            let selector = bundle.field("labelSelector");
            if selector.is_set() {
                selector.invalid(errors, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            if signer.is_empty() {
                signer.required(errors, "must be a valid signer name");
            }
            label_selector(&bundle.field("labelSelector"), errors);
        }
        (false, false) => bundle.required(errors, "either name or signerName must be specified"),
    }
    path.must_be_set(errors);
    id(&bundle.field("user"), errors);
    local_path(path.text(), &path.path, errors);
}

/// How long a certificate for a pod may be asked for, and of a signer of Kubernetes itself: 91 days, one day.
const CERTIFICATE_SECONDS_MAX: i64 = 91 * 86_400;
const UPSTREAMS_CERTIFICATE_SECONDS_MAX: i64 = 86_400;

fn pod_certificate<'a>(at: &At<'a>, paths: &mut Paths<'a>, errors: &mut FieldErrors) {
    const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    at.field("keyType").one_of(KEY_TYPES, errors);
    let seconds = at.field("maxExpirationSeconds");
    if seconds.is_set() && seconds.int() < 3600 {
        seconds.invalid(errors, "if provided, maxExpirationSeconds must be >= 3600");
    }
    let host = at.field("signerName").text().split('/').next().unwrap_or_default();
    let upstreams = host == "kubernetes.io" || host.ends_with(".kubernetes.io");
    let most = if upstreams { UPSTREAMS_CERTIFICATE_SECONDS_MAX } else { CERTIFICATE_SECONDS_MAX };
    if seconds.int() > most {
        seconds.invalid(errors, format!("if provided, maxExpirationSeconds must be <= {most}"));
    }
    let mut any = false;
    for name in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = at.field(name);
        if !path.is_empty() {
            any = true;
            local_path(path.text(), &path.path, errors);
            paths.take(path.text(), path.text(), errors);
        }
    }
    if !any {
        at.required(errors, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath");
    }
}

/// No segment leads upwards.
pub fn no_backsteps(at: &At, errors: &mut FieldErrors) {
    backsteps(at.text(), &at.path, errors);
}

fn backsteps(text: &str, path: &Path, errors: &mut FieldErrors) {
    if text.split('/').any(|part| part == "..") {
        errors.push(FieldError::invalid(path, text, "must not contain '..'"));
    }
}

/// A relative path that stays below where it starts.
pub fn descending_path(at: &At, errors: &mut FieldErrors) {
    descending(at.text(), &at.path, errors);
}

fn descending(text: &str, path: &Path, errors: &mut FieldErrors) {
    if text.starts_with('/') {
        errors.push(FieldError::invalid(path, text, "must be a relative path"));
    }
    backsteps(text, path, errors);
}

/// The same, and not one of the names the atomic writer uses.
fn local_path(text: &str, path: &Path, errors: &mut FieldErrors) {
    descending(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push(FieldError::invalid(path, text, "must not start with '..'"));
    }
}

/// A container's mounts, against the pod's volumes; some failures stand at the list, as upstream has them.
pub fn mounts(container: &At, volumes: &[(&str, &Value)], errors: &mut FieldErrors) {
    let list = container.field("volumeMounts");
    let devices = container.field("volumeDevices");
    let mut paths = Vec::new();
    for mount in list.items() {
        let [name, path] = ["name", "mountPath"].map(|name| mount.field(name));
        name.must_be_set(errors);
        if !volumes.iter().any(|(known, _)| name.is(known)) {
            errors.push(FieldError::not_found(&name.path, name.text()));
        }
        path.must_be_set(errors);
        if paths.contains(&path.text()) {
            path.invalid(errors, "must be unique");
        }
        paths.push(path.text());
        if devices.items().any(|device| device.field("name").is(name.text())) {
            name.invalid(errors, "must not already exist in volumeDevices");
        }
        if devices.items().any(|device| device.field("devicePath").is(path.text())) {
            path.invalid(errors, "must not already exist as a path in volumeDevices");
        }
        let (sub_path, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
        if !sub_path.is_empty() {
            descending(sub_path.text(), &list.path.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                expression.invalid(errors, "subPathExpr and subPath are mutually exclusive");
            }
            descending(expression.text(), &list.path.child("subPathExpr"), errors);
        }
        let privileged = container.fields(&["securityContext", "privileged"]).flag();
        propagation(&mount, &list.path, privileged, errors);
    }
}

fn propagation(mount: &At, list: &Path, privileged: bool, errors: &mut FieldErrors) {
    let propagation = mount.field("mountPropagation").reported_at(list.child("mountPropagation"));
    propagation.optional_one_of(&["Bidirectional", "HostToContainer", "None"], errors);
    if propagation.is("Bidirectional") && !privileged {
        propagation.forbidden(errors, "Bidirectional mount propagation is available only to privileged containers");
    }
    let recursive = mount.field("recursiveReadOnly").reported_at(list.child("recursiveReadOnly"));
    match recursive.text() {
        "Enabled" | "IfPossible" => {
            if !mount.field("readOnly").flag() {
                recursive.forbidden(errors, "may only be specified when readOnly is true");
            }
            if propagation.is_set() && !propagation.is("None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                recursive.forbidden(errors, detail);
            }
        }
        _ => recursive.optional_one_of(&["Disabled", "Enabled", "IfPossible"], errors),
    }
    let mut seen = Vec::new();
    for option in mount.field("bindMountOptions").items() {
        option.one_of(&["nodev", "noexec", "nosuid"], errors);
        if seen.contains(&option.text()) {
            option.duplicate(errors);
        }
        seen.push(option.text());
    }
}

/// A container's block devices, against the pod's volumes.
pub fn devices(container: &At, volumes: &[(&str, &Value)], errors: &mut FieldErrors) {
    let mounts = container.field("volumeMounts");
    let (mut seen, mut paths) = (Vec::new(), Vec::new());
    for device in container.field("volumeDevices").items() {
        let [name, path] = ["name", "devicePath"].map(|name| device.field(name));
        name.must_be_set(errors);
        if seen.contains(&name.text()) {
            name.invalid(errors, "must be unique");
        }
        match volumes.iter().find(|(known, _)| name.is(known)) {
            None => errors.push(FieldError::not_found(&name.path, name.text())),
            Some((_, volume)) if volume["persistentVolumeClaim"].is_null() && volume["ephemeral"].is_null() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                name.invalid(errors, detail);
            }
            Some(_) => {}
        }
        path.must_be_set(errors);
        if paths.contains(&path.text()) {
            path.invalid(errors, "must be unique");
        }
        if path.text().split('/').any(|part| part == "..") {
            path.invalid(errors, "can not contain backsteps ('..')");
        } else {
            paths.push(path.text());
        }
        if mounts.items().any(|mount| mount.field("name").is(name.text())) {
            name.invalid(errors, "must not already exist in volumeMounts");
        }
        if mounts.items().any(|mount| mount.field("mountPath").is(path.text())) {
            path.invalid(errors, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            seen.push(name.text());
        }
    }
}
