//! What the runtime is told about a sandbox and about each container.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Service, VolumeMount};
use pods::amounts::qos_class;
use pods::downward::Place;
use pods::env::{command_and_args, environment};
use pods::ports::{ContainerId, ContainerSpec, HostPort, ImageMount, Mount, PodNetwork, Sandbox, SandboxSpec};
use pods::{cgroup, dns, security};

use crate::host::{Host, uid};
use crate::objects::{Reference, Which};
use crate::volumes::{Fetched, Volume, Volumes, subpath};

/// Where a container writes its last words, unless it says otherwise.
pub(crate) const TERMINATION_PATH: &str = "/dev/termination-log";

pub(crate) fn sandbox(host: &Host, pod: &Pod) -> Result<SandboxSpec, String> {
    let spec = pod.spec.clone().unwrap_or_default();
    let sysctls = spec.security_context.as_ref().and_then(|s| s.sysctls.as_ref()).into_iter().flatten();
    let privileged = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    Ok(SandboxSpec {
        pod_uid: uid(pod).into(),
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        hostname: dns::sandbox_hostname(pod, &host.config.cluster_domain, &host.config.node_name)?,
        host_network: spec.host_network == Some(true),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_process_namespace: spec.share_process_namespace == Some(true),
        user_namespace: spec.host_users == Some(false),
        qos_class: qos_class(pod).into(),
        resources: cgroup::of_pod(pod),
        sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        log_directory: host.pod_log_dir(pod),
        privileged: privileged
            .into_iter()
            .any(|c| c.security_context.as_ref().and_then(|s| s.privileged) == Some(true)),
    })
}

/// What the network is told, or `None` for a pod on the host's.
pub(crate) fn network(pod: &Pod, sandbox: &Sandbox) -> Option<PodNetwork> {
    let spec = pod.spec.as_ref()?;
    if spec.host_network == Some(true) {
        return None;
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|c| c.ports.iter().flatten()).filter_map(|port| {
        Some(HostPort {
            host_ip: port.host_ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|ip: &IpAddr| !ip.is_unspecified()),
            host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
            container_port: u16::try_from(port.container_port).ok()?,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        })
    });
    Some(PodNetwork {
        pod_uid: sandbox.pod_uid.clone(),
        namespace: sandbox.namespace.clone(),
        name: sandbox.name.clone(),
        network_namespace: sandbox.network_namespace.clone()?,
        host_ports: ports.collect(),
    })
}

/// What a container's environment refers to.
pub(crate) fn references(pod: &Pod, container: &Container) -> Vec<Reference> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let of = |which, name: &str| (which, (namespace.clone(), name.to_string()));
    let mut out = Vec::new();
    for from in container.env_from.iter().flatten() {
        out.extend(from.config_map_ref.as_ref().map(|source| of(Which::ConfigMap, &source.name)));
        out.extend(from.secret_ref.as_ref().map(|source| of(Which::Secret, &source.name)));
    }
    for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        out.extend(from.config_map_key_ref.as_ref().map(|source| of(Which::ConfigMap, &source.name)));
        out.extend(from.secret_key_ref.as_ref().map(|source| of(Which::Secret, &source.name)));
    }
    out
}

/// Everything that one container's specification is made from.
pub(crate) struct Inputs<'a> {
    pub(crate) host: &'a Host,
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) attempt: u32,
    pub(crate) volumes: &'a Volumes,
    pub(crate) fetched: &'a Fetched,
    pub(crate) services: &'a [Arc<Service>],
    pub(crate) place: &'a Place,
    /// The container whose processes an ephemeral one wants to see.
    pub(crate) target: Option<ContainerId>,
}

/// The runtime's specification of a container. Binds its subPaths and writes its hosts and resolver files on the way.
///
/// # Errors
/// A reference that leads nowhere, or a subPath that leads out: `CreateContainerConfigError`.
pub(crate) fn container(inputs: &Inputs<'_>) -> Result<ContainerSpec, String> {
    let Inputs { host, pod, container, attempt, .. } = inputs;
    let env = environment(pod, container, inputs.services, inputs.fetched, inputs.place)?;
    let (command, args) = command_and_args(container, &env);
    let spec = pod.spec.clone().unwrap_or_default();
    let (mut mounts, image_mounts) = mounts(inputs, &env)?;
    mounts.extend(own_files(inputs, &mounts).map_err(|error| error.to_string())?);
    Ok(ContainerSpec {
        id: ContainerId { pod_uid: uid(pod).into(), name: container.name.clone(), attempt: *attempt },
        image: container.image.clone().unwrap_or_default(),
        command,
        args,
        env,
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
        mounts,
        image_mounts,
        security: security::merge(&spec, container, &host.config.data_dir.join("seccomp")),
        resources: cgroup::of_container(pod, container, host.machine.memory_bytes),
        tty: container.tty == Some(true),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        log_path: PathBuf::from(&container.name).join(format!("{attempt}.log")),
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
        join_process_namespace_of: inputs.target.clone(),
    })
}

type Mounts = (Vec<Mount>, Vec<ImageMount>);

fn mounts(inputs: &Inputs<'_>, env: &[(String, String)]) -> Result<Mounts, String> {
    let (mut out, mut images) = (Vec::new(), Vec::new());
    for (index, wanted) in inputs.container.volume_mounts.iter().flatten().enumerate() {
        let volume = inputs.volumes.get(&wanted.name).ok_or_else(|| format!("cannot find volume {:?}", wanted.name))?;
        let sub_path = sub_path(wanted, env)?;
        let source = match (volume, sub_path) {
            (Volume::Image(image), sub_path) => {
                let target = PathBuf::from(&wanted.mount_path);
                images.push(ImageMount { image: image.clone(), target, sub_path });
                continue;
            }
            (Volume::Directory(dir) | Volume::ReadOnly(dir), Some(sub_path)) => {
                let Inputs { host, pod, container, .. } = inputs;
                let base = host.pod_dir(uid(pod)).join("volume-subpaths").join(&wanted.name);
                subpath::bind(dir, &sub_path, &base.join(&container.name).join(index.to_string()))?
            }
            (Volume::Node(_), Some(_)) => return Err(format!("subPath of volume {:?}: not a directory", wanted.name)),
            (Volume::Directory(path) | Volume::ReadOnly(path) | Volume::Node(path), None) => path.clone(),
        };
        let read_only = wanted.read_only == Some(true) || matches!(volume, Volume::ReadOnly(_));
        let recursive = matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        out.push(Mount {
            source,
            target: absolute(&wanted.mount_path),
            read_only,
            recursive_read_only: read_only && recursive,
            propagation: wanted.mount_propagation.clone(),
        });
    }
    Ok((out, images))
}

/// kubernetes/kubernetes pkg/kubelet/kubelet_pods.go: a relative mount path counts from the root.
fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Result<Option<PathBuf>, String> {
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        let holder = Container { args: Some(vec![expression.to_string()]), ..Container::default() };
        let text = command_and_args(&holder, env).1.concat();
        if text.contains("$(") {
            return Err(format!("missing value for {expression:?}"));
        }
        return Ok(Some(text.into()));
    }
    Ok(mount.sub_path.as_deref().filter(|path| !path.is_empty()).map(PathBuf::from))
}

/// /etc/hosts, /etc/hostname, /etc/resolv.conf and the termination message, unless a volume takes their place.
fn own_files(inputs: &Inputs<'_>, taken: &[Mount]) -> std::io::Result<Vec<Mount>> {
    let Inputs { host, pod, container, attempt, .. } = inputs;
    let dir = host.pod_dir(uid(pod));
    let last_words = dir.join("containers").join(&container.name).join(attempt.to_string());
    if let Some(parent) = last_words.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&last_words, b"")?;
    use std::os::unix::fs::PermissionsExt;
    // Whoever the container runs as must be able to write it.
    std::fs::set_permissions(&last_words, std::fs::Permissions::from_mode(0o666))?;
    let termination = container.termination_message_path.as_deref().unwrap_or(TERMINATION_PATH);
    let files = [("etc-hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];
    let mut out: Vec<Mount> = files.map(|(name, target)| plain(dir.join(name), target.into())).into();
    out.push(plain(last_words, absolute(termination)));
    out.retain(|mount| !taken.iter().any(|other| other.target == mount.target));
    Ok(out)
}

fn plain(source: PathBuf, target: PathBuf) -> Mount {
    Mount { source, target, ..Mount::default() }
}

/// Writes the files that every container of the pod shares.
///
/// # Errors
/// The pod's directory cannot be written.
pub(crate) fn write_shared_files(host: &Host, pod: &Pod, addresses: &[IpAddr]) -> std::io::Result<()> {
    let dir = host.pod_dir(uid(pod));
    std::fs::create_dir_all(&dir)?;
    let spec = pod.spec.clone().unwrap_or_default();
    let aliases = spec.host_aliases.clone().unwrap_or_default();
    let (name, domain) = dns::hostname_and_domain(pod, &host.config.cluster_domain);
    let hosts = if spec.host_network == Some(true) {
        dns::hosts_file_of_host(&std::fs::read_to_string("/etc/hosts")?, &aliases)
    } else {
        dns::hosts_file(addresses, &name, &domain, &aliases)
    };
    let hostname = dns::sandbox_hostname(pod, &host.config.cluster_domain, &host.config.node_name);
    std::fs::write(dir.join("etc-hosts"), hosts)?;
    std::fs::write(dir.join("hostname"), hostname.unwrap_or(name) + "\n")?;
    // The last one appears whole: with it all are there.
    let unfinished = dir.join("resolv.conf.new");
    std::fs::write(&unfinished, dns::resolver(pod, &host.dns()).render())?;
    std::fs::rename(unfinished, dir.join("resolv.conf"))
}

/// Whether the files that every container of the pod shares have been written.
pub(crate) fn has_shared_files(host: &Host, pod: &Pod) -> bool {
    host.pod_dir(uid(pod)).join("resolv.conf").exists()
}
