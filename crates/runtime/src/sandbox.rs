//! A pod's sandbox: namespaces pinned by bind mounts, a shared `/dev/shm`, and a parent cgroup. No process, except where
//! containers share a process namespace: then one of ours holds it.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::CloneFlags;
use pods::ports::{Resources, RuntimeError, Sandbox, SandboxSpec};
use pods::sysctls::{self, Namespace};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::layout::{boot_id, write_atomically};
use crate::local::{Local, broken};
use crate::qos;

/// What stands in `sandbox.json`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SandboxRecord {
    pub spec: SandboxSpec,
    pub created: jiff::Timestamp,
    pub boot: String,
    /// Path of the pod's cgroup below each hierarchy.
    pub cgroup: String,
}

/// The namespaces that a sandbox can pin, by their names under `/proc/<pid>/ns`.
const PINNED: [&str; 4] = ["net", "ipc", "uts", "pid"];

impl SandboxRecord {
    pub fn sandbox(&self, directory: &Path) -> Sandbox {
        Sandbox {
            pod_uid: self.spec.pod_uid.clone(),
            namespace: self.spec.namespace.clone(),
            name: self.spec.name.clone(),
            network_namespace: (!self.spec.host_network).then(|| directory.join("ns/net")),
            created: self.created,
        }
    }
}

pub fn read(directory: &Path) -> Option<SandboxRecord> {
    serde_json::from_slice(&std::fs::read(directory.join("sandbox.json")).ok()?).ok()
}

/// The pod's cgroup, as upstream's cgroupfs driver nests them.
/// kubernetes/kubernetes pkg/kubelet/cm/pod_container_manager_linux.go: guaranteed pods stand directly below the root.
fn cgroup_path(root: &str, spec: &SandboxSpec) -> String {
    format!("{}/pod{}", qos::group(root, &spec.qos_class), spec.pod_uid)
}

pub fn create(local: &Local, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
    if spec.user_namespace {
        return Err(RuntimeError::Broken("hostUsers: false: user namespaces are not supported by this runtime".into()));
    }
    if spec.pod_uid.is_empty() || spec.pod_uid.contains('/') || spec.pod_uid.starts_with('.') {
        return Err(RuntimeError::Broken(format!("{:?} is no pod uid", spec.pod_uid)));
    }
    let directory = local.layout.sandbox(&spec.pod_uid);
    if let Some(record) = read(&directory).filter(|r| r.boot == boot_id()) {
        return Ok(record.sandbox(&directory));
    }
    let record = SandboxRecord {
        spec: spec.clone(),
        created: jiff::Timestamp::now(),
        boot: boot_id(),
        cgroup: cgroup_path(&local.config.cgroup_root, spec),
    };
    match make(local, &directory, &record) {
        Ok(()) => Ok(record.sandbox(&directory)),
        Err(e) => {
            unpin(&directory);
            let _removed = local.cgroups.remove(&record.cgroup);
            let _forgotten = local.burstable.forget(&local.cgroups, &local.config.cgroup_root, &spec.pod_uid);
            Err(RuntimeError::Broken(format!("failed to create pod sandbox: {e}")))
        }
    }
}

fn make(local: &Local, directory: &Path, record: &SandboxRecord) -> io::Result<()> {
    let spec = &record.spec;
    // What a sandbox left that was not finished, or that died with an earlier boot.
    unpin(directory);
    std::fs::create_dir_all(directory.join("ns"))?;
    std::fs::create_dir_all(&spec.log_directory)?;
    local.burstable.admit(&local.cgroups, &local.config.cgroup_root, spec)?;
    local.cgroups.create(&record.cgroup, &spec.resources)?;
    // A thread of its own: its namespaces are changed for good, so no pool may have it back.
    let pins = directory.join("ns");
    std::thread::scope(|scope| {
        let made =
            std::thread::Builder::new().name("sandbox".into()).spawn_scoped(scope, || namespaces(spec, &pins))?;
        made.join().map_err(|_| io::Error::other("the namespace thread panicked"))?
    })?;
    if !spec.host_ipc {
        let shm = directory.join("shm");
        std::fs::create_dir_all(&shm)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("shm", &shm, "tmpfs", flags, c"mode=1777,size=67108864")?;
    }
    if spec.share_process_namespace && !spec.host_pid {
        pause(local, directory, record)?;
    }
    // The record comes last: with it the sandbox is whole.
    write_atomically(&directory.join("sandbox.json"), &serde_json::to_vec(record)?)
}

/// Runs in a thread of its own.
fn namespaces(spec: &SandboxSpec, pins: &Path) -> io::Result<()> {
    let mut flags = CloneFlags::empty();
    let mut names = Vec::new();
    let mut add = |wanted: bool, flag, name| {
        if wanted {
            flags |= flag;
            names.push(name);
        }
    };
    add(!spec.host_network, CloneFlags::CLONE_NEWNET, "net");
    add(!spec.host_ipc, CloneFlags::CLONE_NEWIPC, "ipc");
    // containerd internal/cri/server/podsandbox: a pod in the host's network keeps the host's name.
    add(!spec.host_network, CloneFlags::CLONE_NEWUTS, "uts");
    nix::sched::unshare(flags)?;
    if !spec.host_network {
        nix::unistd::sethostname(&spec.hostname)?;
        loopback_up()?;
    }
    write_sysctls(spec)?;
    for name in names {
        let pin = pins.join(name);
        std::fs::write(&pin, b"")?;
        mount_bind(format!("/proc/thread-self/ns/{name}"), &pin)?;
    }
    Ok(())
}

/// Sets the pod's kernel parameters, by a thread that is in the pod's namespaces already.
fn write_sysctls(spec: &SandboxSpec) -> io::Result<()> {
    let mut own = Vec::new();
    if !spec.host_network {
        own.extend([Namespace::Net, Namespace::Uts]);
    }
    if !spec.host_ipc {
        own.push(Namespace::Ipc);
    }
    for (name, value) in &spec.sysctls {
        let path = sysctls::file(name, &own).map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
        std::fs::write(&path, value)
            .map_err(|e| io::Error::new(e.kind(), format!("write sysctl {name} = {value}: {e}")))?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "interface ioctls with an ifreq that lives through the call")]
fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = *from as libc::c_char;
    }
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn pause(local: &Local, directory: &Path, record: &SandboxRecord) -> io::Result<()> {
    let group = format!("{}/pause", record.cgroup);
    local.cgroups.create(&group, &Resources::default())?;
    std::fs::create_dir_all(directory.join("empty"))?;
    let status = local
        .helper_command("pause")
        .args([directory.join("ns/pid"), directory.join("empty")])
        .args(local.cgroups.procs(&group))
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("the pause process: {status}"))) }
}

/// Where a container of this pod finds a namespace; `None` means the host's.
pub fn namespace(directory: &Path, name: &str) -> Option<PathBuf> {
    let pin = directory.join("ns").join(name);
    pin.exists().then_some(pin)
}

/// Gives a pod other limits, which count from now on for its group, its class and whoever adopts it.
pub fn update(local: &Local, pod_uid: &str, resources: &Resources) -> Result<(), RuntimeError> {
    let directory = local.layout.sandbox(pod_uid);
    let mut record = read(&directory).ok_or_else(|| RuntimeError::NoSuchSandbox(pod_uid.to_owned()))?;
    local.cgroups.update(&record.cgroup, resources).map_err(broken)?;
    record.spec.resources = resources.clone();
    local.burstable.admit(&local.cgroups, &local.config.cgroup_root, &record.spec).map_err(broken)?;
    let text = serde_json::to_vec(&record).map_err(broken)?;
    write_atomically(&directory.join("sandbox.json"), &text).map_err(broken)
}

/// Ends everything in the pod's cgroup and takes the sandbox away.
pub fn remove(local: &Local, pod_uid: &str) -> io::Result<()> {
    let directory = local.layout.sandbox(pod_uid);
    if let Some(record) = read(&directory).filter(|r| r.boot == boot_id()) {
        local.cgroups.kill(&record.cgroup, Duration::from_secs(10))?;
        local.cgroups.remove(&record.cgroup)?;
        local.burstable.forget(&local.cgroups, &local.config.cgroup_root, pod_uid)?;
    }
    unpin(&directory);
    match std::fs::remove_dir_all(&directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Unmounts what a sandbox directory has mounted in it.
fn unpin(directory: &Path) {
    for name in PINNED {
        let pin = directory.join("ns").join(name);
        // Not a mount (any more) is what is wanted; anything else shows when the directory is removed.
        let _unmounted = unmount(&pin, UnmountFlags::DETACH);
        let _removed = std::fs::remove_file(&pin);
    }
    let _unmounted = unmount(directory.join("shm"), UnmountFlags::DETACH);
}
