//! PodSecurity: the Pod Security Standards that a namespace's labels ask for.
//!
//! kubernetes/kubernetes staging/src/k8s.io/pod-security-admission/policy: the checks of `baseline` and `restricted`.

use k8s_openapi::api::core::v1::{Capabilities, Pod, PodSpec, SecurityContext};
use machinery::status::Status;
use serde_json::Value;

use super::{Operation, Request, View, decode};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Baseline,
    Restricted,
}

pub fn validate(request: &Request, view: &dyn View, new: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let pods = request.is_of("", "pods", &["", "ephemeralcontainers", "resize"]);
    if !pods || !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let Some(new) = new else { return Ok(()) };
    if old.is_some_and(|old| !is_significant(new, old)) {
        return Ok(());
    }
    let Some(namespace) = view.namespace(request.namespace) else { return Ok(()) };
    let labels = namespace.metadata.labels.as_ref();
    let (name, level) = match labels.and_then(|l| l.get("pod-security.kubernetes.io/enforce")).map(String::as_str) {
        Some("baseline") => ("baseline", Level::Baseline),
        Some("restricted") => ("restricted", Level::Restricted),
        _ => return Ok(()),
    };
    let version =
        labels.and_then(|l| l.get("pod-security.kubernetes.io/enforce-version")).map_or("latest", String::as_str);
    let pod: Pod = decode(request, new)?;
    let violations = violations(&pod, level);
    if violations.is_empty() {
        return Ok(());
    }
    Err(request.forbidden(format_args!("violates PodSecurity \"{name}:{version}\": {}", violations.join(", "))))
}

/// Whether a change brings in what was not judged before: another image, another container.
/// kubernetes/kubernetes staging/src/k8s.io/pod-security-admission/admission/admission.go: isSignificantPodUpdate
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<(Value, Value)> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.map(|container| (container["name"].clone(), container["image"].clone())).collect()
    };
    let differ = |list: &str| {
        let (new, old) = (images(new, list), images(old, list));
        new.len() != old.len() || new.iter().zip(&old).any(|((_, image), (_, before))| image != before)
    };
    let known = images(old, "ephemeralContainers");
    differ("containers")
        || differ("initContainers")
        || images(new, "ephemeralContainers").iter().any(|container| !known.contains(container))
}

struct Named<'a> {
    name: &'a str,
    context: Option<&'a SecurityContext>,
    ports: Vec<i32>,
}

fn containers(spec: &PodSpec) -> Vec<Named<'_>> {
    let host_ports = |ports: Option<&Vec<k8s_openapi::api::core::v1::ContainerPort>>| {
        ports.into_iter().flatten().filter_map(|p| p.host_port).filter(|p| *p != 0).collect()
    };
    let plain = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| Named {
        name: &c.name,
        context: c.security_context.as_ref(),
        ports: host_ports(c.ports.as_ref()),
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| Named {
        name: &c.name,
        context: c.security_context.as_ref(),
        ports: host_ports(c.ports.as_ref()),
    });
    plain.chain(ephemeral).collect()
}

fn violations(pod: &Pod, level: Level) -> Vec<String> {
    let Some(spec) = pod.spec.as_ref() else { return Vec::new() };
    let all = containers(spec);
    let mut found = Vec::new();
    if level >= Level::Restricted {
        restricted(spec, &all, &mut found);
    }
    if level >= Level::Baseline {
        baseline(spec, &all, level, &mut found);
    }
    found
}

/// `containers "a", "b"`, with a plural where there are several.
fn listed(all: &[Named], fails: impl Fn(&Named) -> bool) -> Option<String> {
    let names: Vec<String> = all.iter().filter(|c| fails(c)).map(|c| format!("{:?}", c.name)).collect();
    match names.len() {
        0 => None,
        1 => Some(format!("container {}", names[0])),
        _ => Some(format!("containers {}", names.join(", "))),
    }
}

fn restricted(spec: &PodSpec, all: &[Named], found: &mut Vec<String>) {
    if let Some(who) = listed(all, |c| c.context.and_then(|s| s.allow_privilege_escalation) != Some(false)) {
        found.push(format!(
            "allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"
        ));
    }
    let caps = |c: &Named| c.context.and_then(|s| s.capabilities.clone()).unwrap_or_default();
    let keeps = |c: &Named| !caps(c).drop.iter().flatten().any(|d| d == "ALL");
    let adds = |c: &Named| caps(c).add.iter().flatten().any(|a| a != "NET_BIND_SERVICE");
    if let Some(who) = listed(all, keeps) {
        found.push(format!("unrestricted capabilities ({who} must set securityContext.capabilities.drop=[\"ALL\"])"));
    } else if let Some(who) = listed(all, adds) {
        found.push(format!("unrestricted capabilities ({who} must not include capabilities other than \"NET_BIND_SERVICE\" in securityContext.capabilities.add)"));
    }
    let volumes: Vec<String> =
        spec.volumes.iter().flatten().filter(|v| !restricted_volume(v)).map(|v| format!("{:?}", v.name)).collect();
    if !volumes.is_empty() {
        let (noun, verb) = if volumes.len() == 1 { ("volume", "uses") } else { ("volumes", "use") };
        found.push(format!("restricted volume types ({noun} {} {verb} restricted volume type)", volumes.join(", ")));
    }
    let pod_non_root = spec.security_context.as_ref().and_then(|s| s.run_as_non_root);
    let may_be_root = |c: &Named| c.context.and_then(|s| s.run_as_non_root).or(pod_non_root) != Some(true);
    if let Some(who) = listed(all, may_be_root) {
        let whose = if pod_non_root.is_none() { format!("pod or {who}") } else { who };
        found.push(format!("runAsNonRoot != true ({whose} must set securityContext.runAsNonRoot=true)"));
    }
    let pod_root = spec.security_context.as_ref().and_then(|s| s.run_as_user) == Some(0);
    let is_root = |c: &Named| c.context.and_then(|s| s.run_as_user) == Some(0);
    match (pod_root, listed(all, is_root)) {
        (false, None) => {}
        (true, None) => found.push("runAsUser=0 (pod must not set runAsUser=0)".to_owned()),
        (false, Some(who)) => found.push(format!("runAsUser=0 ({who} must not set runAsUser=0)")),
        (true, Some(who)) => found.push(format!("runAsUser=0 (pod and {who} must not set runAsUser=0)")),
    }
    let pod_seccomp = spec.security_context.as_ref().and_then(|s| s.seccomp_profile.as_ref()).map(|p| p.type_.as_str());
    let unset = |c: &Named| {
        let own = c.context.and_then(|s| s.seccomp_profile.as_ref()).map(|p| p.type_.as_str());
        !matches!(own.or(pod_seccomp), Some("RuntimeDefault" | "Localhost"))
    };
    if let Some(who) = listed(all, unset) {
        let whose = if pod_seccomp.is_none() { format!("pod or {who}") } else { who };
        found.push(format!("seccompProfile ({whose} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"));
    }
}

fn restricted_volume(volume: &k8s_openapi::api::core::v1::Volume) -> bool {
    volume.config_map.is_some()
        || volume.csi.is_some()
        || volume.downward_api.is_some()
        || volume.empty_dir.is_some()
        || volume.ephemeral.is_some()
        || volume.image.is_some()
        || volume.persistent_volume_claim.is_some()
        || volume.projected.is_some()
        || volume.secret.is_some()
}

/// Capabilities of a container runtime's default set, which `baseline` allows to add.
const BASELINE_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn baseline(spec: &PodSpec, all: &[Named], level: Level, found: &mut Vec<String>) {
    of_the_host(spec, all, found);
    of_the_kernel(spec, all, level, found);
}

/// Shares of the host: its namespaces, ports and paths.
fn of_the_host(spec: &PodSpec, all: &[Named], found: &mut Vec<String>) {
    let host: Vec<&str> =
        [(spec.host_network, "hostNetwork=true"), (spec.host_pid, "hostPID=true"), (spec.host_ipc, "hostIPC=true")]
            .into_iter()
            .filter(|(set, _)| *set == Some(true))
            .map(|(_, name)| name)
            .collect();
    if !host.is_empty() {
        found.push(format!("host namespaces ({})", host.join(", ")));
    }
    let ports: Vec<String> = all.iter().flat_map(|c| &c.ports).map(ToString::to_string).collect();
    if let Some(who) = listed(all, |c| !c.ports.is_empty()) {
        let noun = if ports.len() == 1 { "hostPort" } else { "hostPorts" };
        let verb = if who.starts_with("containers") { "use" } else { "uses" };
        found.push(format!("hostPort ({who} {verb} {noun} {})", ports.join(", ")));
    }
    let paths: Vec<String> =
        spec.volumes.iter().flatten().filter(|v| v.host_path.is_some()).map(|v| format!("{:?}", v.name)).collect();
    if !paths.is_empty() {
        let noun = if paths.len() == 1 { "volume" } else { "volumes" };
        found.push(format!("hostPath volumes ({noun} {})", paths.join(", ")));
    }
}

/// What a container may ask of the kernel: privileges, capabilities, /proc, seccomp, sysctls.
fn of_the_kernel(spec: &PodSpec, all: &[Named], level: Level, found: &mut Vec<String>) {
    if let Some(who) = listed(all, |c| c.context.and_then(|s| s.privileged) == Some(true)) {
        found.push(format!("privileged ({who} must not set securityContext.privileged=true)"));
    }
    let adds = |c: &Named| {
        let capabilities: Capabilities = c.context.and_then(|s| s.capabilities.clone()).unwrap_or_default();
        capabilities.add.unwrap_or_default()
    };
    let beyond = |name: &String| !BASELINE_CAPABILITIES.contains(&name.as_str());
    // `restricted` has its own, stricter rule.
    if level == Level::Baseline
        && let Some(who) = listed(all, |c| adds(c).iter().any(beyond))
    {
        let mut names: Vec<String> = all.iter().flat_map(adds).filter(beyond).map(|n| format!("{n:?}")).collect();
        names.sort();
        names.dedup();
        found.push(format!(
            "non-default capabilities ({who} must not include {} in securityContext.capabilities.add)",
            names.join(", ")
        ));
    }
    if let Some(who) = listed(all, |c| c.context.and_then(|s| s.proc_mount.as_deref()).is_some_and(|m| m != "Default"))
    {
        found.push(format!("procMount ({who} must not set securityContext.procMount to \"Unmasked\")"));
    }
    let pod_seccomp = spec.security_context.as_ref().and_then(|s| s.seccomp_profile.as_ref());
    let unconfined =
        |c: &Named| c.context.and_then(|s| s.seccomp_profile.as_ref()).is_some_and(|p| p.type_ == "Unconfined");
    if level == Level::Baseline {
        let pod = pod_seccomp.is_some_and(|p| p.type_ == "Unconfined");
        match (pod, listed(all, unconfined)) {
            (false, None) => {}
            (true, None) => found.push(
                "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")".to_owned(),
            ),
            (pod, Some(who)) => {
                let whose = if pod { format!("pod and {who}") } else { who };
                found.push(format!(
                    "seccompProfile ({whose} must not set securityContext.seccompProfile.type to \"Unconfined\")"
                ));
            }
        }
    }
    let sysctls: Vec<String> = spec
        .security_context
        .iter()
        .flat_map(|s| s.sysctls.iter().flatten())
        .filter(|s| !SAFE_SYSCTLS.contains(&s.name.as_str()))
        .map(|s| s.name.clone())
        .collect();
    if !sysctls.is_empty() {
        found.push(format!("forbidden sysctls ({})", sysctls.join(", ")));
    }
}
