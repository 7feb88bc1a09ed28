//! Security contexts of pods and containers.
//!
//! `kubernetes/kubernetes pkg/apis/core/validation/validation.go`: the rules.

use machinery::field::{FieldError, FieldErrors};
use machinery::names;

use super::At;
use super::volume::descending_path;

/// The longest path of a profile: PATH_MAX less its end.
const PROFILE_BYTES_MAX: usize = 4095;
const SYSCTL_TEXT: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const IDS: [&str; 2] = ["runAsUser", "runAsGroup"];

/// A user's or group's number.
pub fn id(at: &At, errors: &mut FieldErrors) {
    if at.is_set() {
        for message in names::in_range(at.int(), 0, i64::from(i32::MAX)) {
            at.invalid(errors, message);
        }
    }
}

/// A container's security context.
pub fn container(at: &At, host_users: bool, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    IDS.iter().for_each(|name| id(&at.field(name), errors));
    if let Some(mount) = at.set("procMount") {
        mount.one_of(&["Default", "Unmasked"], errors);
        if host_users && mount.is("Unmasked") {
            mount.invalid(errors, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(&at.field("seccompProfile"), errors);
    windows(&at.field("windowsOptions"), errors);
    if at.field("allowPrivilegeEscalation").value == false && at.field("privileged").flag() {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.push(FieldError::invalid(&at.path, super::shown(shown_context(at)), detail));
    }
    app_armor(&at.field("appArmorProfile"), errors);
}

/// What a pod or container says to a Windows node.
pub fn windows(at: &At, errors: &mut FieldErrors) {
    if let Some(name) = at.set("gmsaCredentialSpecName") {
        name.invalid_each(errors, names::dns1123_subdomain(name.text()));
    }
    for field in ["gmsaCredentialSpec", "runAsUserName"] {
        if at.field(field).is_set() && at.field(field).is_empty() {
            at.field(field).invalid(errors, format!("{field} cannot be an empty string"));
        }
    }
}

/// The context as upstream shows its internal struct.
fn shown_context(at: &At) -> String {
    const FIELDS: [(&str, &str); 12] = [
        ("Capabilities", "capabilities"),
        ("Privileged", "privileged"),
        ("SELinuxOptions", "seLinuxOptions"),
        ("WindowsOptions", "windowsOptions"),
        ("RunAsUser", "runAsUser"),
        ("RunAsGroup", "runAsGroup"),
        ("RunAsNonRoot", "runAsNonRoot"),
        ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
        ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
        ("ProcMount", "procMount"),
        ("SeccompProfile", "seccompProfile"),
        ("AppArmorProfile", "appArmorProfile"),
    ];
    let fields = FIELDS.map(|(shown, name)| format!("\"{shown}\":{}", at.field(name).value));
    format!("{{{}}}", fields.join(","))
}

fn seccomp(at: &At, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    let (of, profile) = (at.field("type"), at.field("localhostProfile"));
    if of.is_empty() {
        of.required(errors, "type is required when seccompProfile is set");
    } else {
        of.one_of(&["Localhost", "RuntimeDefault", "Unconfined"], errors);
    }
    match (of.is("Localhost"), profile.is_set()) {
        (true, false) => profile.required(errors, "must be set when seccomp type is Localhost"),
        (true, true) => descending_path(&profile, errors),
        (false, true) => {
            let shown = format!("{{\"Type\":{},\"LocalhostProfile\":{}}}", of.value, profile.value);
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&profile.path, super::shown(shown), detail));
        }
        (false, false) => {}
    }
}

fn app_armor(at: &At, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    let (of, profile) = (at.field("type"), at.field("localhostProfile"));
    match of.text() {
        "Localhost" => {
            let path = profile.text();
            if path.trim() != path {
                profile.invalid(errors, "must not be padded with whitespace");
            } else if path.is_empty() {
                profile.required(errors, "must be set when AppArmor type is Localhost");
            }
            if path.len() > PROFILE_BYTES_MAX {
                errors.push(FieldError::too_long(&profile.path, PROFILE_BYTES_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if profile.is_set() {
                profile.invalid(errors, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => of.required(errors, "type is required when appArmorProfile is set"),
        _ => {
            of.one_of(&["Localhost", "RuntimeDefault", "Unconfined"], errors);
        }
    }
}

/// A pod's security context.
pub fn pod(at: &At, spec: &At, errors: &mut FieldErrors) {
    id(&at.field("fsGroup"), errors);
    IDS.iter().for_each(|name| id(&at.field(name), errors));
    at.field("supplementalGroups").items().for_each(|group| id(&group, errors));
    sysctls(&at.field("sysctls"), spec, errors);
    at.field("fsGroupChangePolicy").optional_one_of(&["Always", "OnRootMismatch"], errors);
    seccomp(&at.field("seccompProfile"), errors);
    windows(&at.field("windowsOptions"), errors);
    app_armor(&at.field("appArmorProfile"), errors);
    at.field("supplementalGroupsPolicy").optional_one_of(&["Merge", "Strict"], errors);
    at.field("seLinuxChangePolicy").optional_one_of(&["MountOption", "Recursive"], errors);
}

fn is_sysctl(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let segment = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        edge(part.as_bytes().first()) && edge(part.as_bytes().last()) && part.bytes().all(inner)
    };
    name.len() <= names::DNS_SUBDOMAIN_MAX && name.split(['.', '/']).all(segment)
}

fn sysctls(at: &At, spec: &At, errors: &mut FieldErrors) {
    let mut seen = Vec::new();
    for sysctl in at.items() {
        let name = sysctl.field("name");
        if name.is_empty() {
            name.required(errors, "");
        } else if !is_sysctl(name.text()) {
            name.invalid(errors, SYSCTL_TEXT);
        } else if seen.contains(&name.text()) {
            name.duplicate(errors);
        }
        let dotted = name.text().replace('/', ".");
        let of_ipc = dotted.starts_with("kernel.shm") || dotted.starts_with("kernel.msg") || dotted == "kernel.sem";
        if spec.field("hostNetwork").flag() && dotted.starts_with("net.") {
            name.invalid(errors, "may not be specified when 'hostNetwork' is true");
        } else if spec.field("hostIPC").flag() && (of_ipc || dotted.starts_with("fs.mqueue.")) {
            name.invalid(errors, "may not be specified when 'hostIPC' is true");
        }
        seen.push(name.text());
    }
}
