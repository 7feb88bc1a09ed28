//! From a container as the kubelet orders it to the OCI runtime specification that libcontainer reads.

pub mod capabilities;
pub mod seccomp;

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use pods::ports::{ContainerSpec, Mount, Seccomp};
use serde_json::{Value, json};

/// The resolved identity of a container's process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional: Vec<u32>,
}

/// What the image says about how it is run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ImageConfig {
    pub user: Option<String>,
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub working_directory: Option<String>,
    pub stop_signal: Option<String>,
}

/// Everything that the specification is made from.
pub struct Inputs<'a> {
    pub container: &'a ContainerSpec,
    pub image: &'a ImageConfig,
    pub user: User,
    pub hostname: &'a str,
    pub host_network: bool,
    /// The mounted root, and where image volumes are mounted beside it.
    pub root: PathBuf,
    pub image_volumes: Vec<PathBuf>,
    pub shm: PathBuf,
    pub cgroup: &'a str,
    pub pure_v2: bool,
    /// Namespaces with the path to join, or none for a new one; what is not named is the host's.
    pub namespaces: Vec<(&'static str, Option<PathBuf>)>,
    /// Capabilities that this machine can give.
    pub available: &'a [String],
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// kubernetes/kubernetes pkg/securitycontext/util.go: the parts of /proc and /sys that containers do not see.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// The same source: the parts that they see but cannot change.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The command line: the user's command replaces entrypoint and command, the user's arguments replace the command.
pub fn arguments(container: &ContainerSpec, image: &ImageConfig) -> Vec<String> {
    let (program, rest) = match (container.command.as_slice(), container.args.as_slice()) {
        ([], []) => (image.entrypoint.as_slice(), image.command.as_slice()),
        ([], args) => (image.entrypoint.as_slice(), args),
        (command, args) => (command, args),
    };
    program.iter().chain(rest).cloned().collect()
}

/// The image's environment, overridden by the container's, in a stable order.
pub fn environment(container: &ContainerSpec, image: &ImageConfig, hostname: &str) -> Vec<String> {
    let mut env: Vec<String> = vec![DEFAULT_PATH.to_owned()];
    let mut set = |entry: String| {
        let key = entry.split('=').next().unwrap_or_default().to_owned();
        match env.iter_mut().find(|e| e.split('=').next() == Some(key.as_str())) {
            Some(existing) => *existing = entry,
            None => env.push(entry),
        }
    };
    if container.tty {
        set("TERM=xterm".to_owned());
    }
    image.env.iter().filter(|e| e.contains('=')).cloned().for_each(&mut set);
    set(format!("HOSTNAME={hostname}"));
    container.env.iter().map(|(key, value)| format!("{key}={value}")).for_each(&mut set);
    env
}

pub fn working_directory(container: &ContainerSpec, image: &ImageConfig) -> String {
    let named = |d: &Option<String>| d.clone().filter(|d| !d.is_empty());
    let directory = named(&container.working_dir).or_else(|| named(&image.working_directory));
    let directory = directory.unwrap_or_else(|| "/".to_owned());
    if directory.starts_with('/') { directory } else { format!("/{directory}") }
}

pub fn build(inputs: &Inputs<'_>) -> Result<Value, String> {
    let container = inputs.container;
    let security = &container.security;
    let args = arguments(container, inputs.image);
    if args.is_empty() {
        return Err("no command specified".to_owned());
    }
    let capabilities = capabilities::capabilities(security, inputs.available)?;
    let seccomp = seccomp_profile(&security.seccomp, security.privileged, &capabilities)?;
    let mut process = json!({
        "terminal": container.tty,
        "user": {"uid": inputs.user.uid, "gid": inputs.user.gid, "additionalGids": inputs.user.additional},
        "args": args,
        "env": environment(container, inputs.image, inputs.hostname),
        "cwd": working_directory(container, inputs.image),
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            "inheritable": [], "ambient": [],
        },
        "noNewPrivileges": security.no_new_privileges,
    });
    if !security.no_new_privileges && seccomp.is_some() {
        // Absent, libcontainer loads the filter while it still has the privilege to.
        process.as_object_mut().map(|p| p.remove("noNewPrivileges"));
    }
    let namespaces: Vec<Value> = inputs
        .namespaces
        .iter()
        .map(|(kind, path)| match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        })
        .collect();
    let masked = !security.privileged && !security.unmasked_proc;
    let mut linux = json!({
        "namespaces": namespaces,
        "cgroupsPath": inputs.cgroup,
        "resources": {"devices": device_rules(security.privileged)},
        "maskedPaths": if masked { json!(masked_paths()) } else { json!([]) },
        "readonlyPaths": if masked { json!(READ_ONLY) } else { json!([]) },
        "rootfsPropagation": root_propagation(&container.mounts),
    });
    if security.privileged {
        linux["devices"] = json!(host_devices(Path::new("/dev")));
    }
    if let Some(profile) = seccomp {
        linux["seccomp"] = profile;
    }
    Ok(json!({
        "ociVersion": "1.1.0",
        "root": {"path": inputs.root, "readonly": security.read_only_root},
        "process": process,
        "mounts": mounts(inputs),
        "linux": linux,
    }))
}

/// Only paths that exist: a mask over nothing is an error for some of them.
fn masked_paths() -> Vec<String> {
    let throttle = (0..)
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"))
        .take_while(|p| Path::new(p).parent().is_some_and(Path::exists))
        .filter(|p| Path::new(p).exists());
    MASKED.iter().map(|p| (*p).to_owned()).chain(throttle).collect()
}

fn seccomp_profile(wanted: &Seccomp, privileged: bool, capabilities: &[String]) -> Result<Option<Value>, String> {
    match wanted {
        _ if privileged => Ok(None),
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(seccomp::default_profile(capabilities))),
        Seccomp::Localhost(path) => {
            let text = std::fs::read(path)
                .map_err(|e| format!("cannot load seccomp profile {:?}: {e}", path.display().to_string()))?;
            let profile = serde_json::from_slice(&text)
                .map_err(|e| format!("decoding seccomp profile failed: {e} in {}", path.display()))?;
            Ok(Some(profile))
        }
    }
}

fn device_rules(privileged: bool) -> Value {
    if privileged { json!([{"allow": true, "access": "rwm"}]) } else { json!([{"allow": false, "access": "rwm"}]) }
}

/// libcontainer knows three of the words; the recursive forms are said by each mount.
fn root_propagation(mounts: &[Mount]) -> &'static str {
    let any = |wanted: &str| mounts.iter().any(|m| m.propagation.as_deref() == Some(wanted));
    match (any("Bidirectional"), any("HostToContainer")) {
        (true, _) => "shared",
        (false, true) => "slave",
        (false, false) => "private",
    }
}

fn mount(target: &str, kind: &str, options: &[&str]) -> Value {
    json!({"destination": target, "type": kind, "source": kind, "options": options})
}

fn mounts(inputs: &Inputs<'_>) -> Vec<Value> {
    let privileged = inputs.container.security.privileged;
    let own: BTreeSet<&Path> = inputs.container.mounts.iter().map(|m| m.target.as_path()).collect();
    let access = if privileged { "rw" } else { "ro" };
    let shm = json!({
        "destination": "/dev/shm", "type": "bind", "source": inputs.shm,
        "options": ["rbind", "rprivate", "nosuid", "nodev", "noexec"],
    });
    let mut all = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        shm,
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ];
    all.retain(|m| m["destination"].as_str().is_none_or(|d| !own.contains(Path::new(d))));
    let images = inputs.container.image_mounts.iter().zip(&inputs.image_volumes).map(|(mount, source)| Mount {
        source: source.clone(),
        target: mount.target.clone(),
        read_only: true,
        ..Mount::default()
    });
    let mut ordered: Vec<Mount> = inputs.container.mounts.iter().cloned().chain(images).collect();
    // A mount inside another must come after it, whatever order they were written in.
    ordered.sort_by_key(|m| m.target.components().count());
    all.extend(ordered.iter().map(bind));
    all
}

fn bind(mount: &Mount) -> Value {
    let propagation = match mount.propagation.as_deref() {
        Some("Bidirectional") => "rshared",
        Some("HostToContainer") => "rslave",
        _ => "rprivate",
    };
    let access = match (mount.recursive_read_only, mount.read_only) {
        (true, _) => "rro",
        (false, true) => "ro",
        (false, false) => "rw",
    };
    json!({
        "destination": mount.target, "type": "bind", "source": mount.source,
        "options": ["rbind", propagation, access],
    })
}

/// Every device node of the host, for a privileged container. containerd pkg/oci/utils_unix.go: which parts of /dev are
/// not devices of the machine.
fn host_devices(directory: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut devices = Vec::new();
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(found) = std::fs::symlink_metadata(&path) else { continue };
        let kind = found.file_type();
        if kind.is_dir() {
            let skipped = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
            if !skipped.iter().any(|s| name == *s) {
                devices.extend(host_devices(&path));
            }
        } else if (kind.is_char_device() || kind.is_block_device()) && name != "console" {
            devices.push(json!({
                "path": path,
                "type": if kind.is_char_device() { "c" } else { "b" },
                "major": libc::major(found.rdev()),
                "minor": libc::minor(found.rdev()),
                "fileMode": found.mode() & 0o777,
                "uid": found.uid(),
                "gid": found.gid(),
            }));
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use super::*;
    use pods::ports::{ContainerId, Resources, Security};

    fn container() -> ContainerSpec {
        ContainerSpec {
            id: ContainerId { pod_uid: "u".into(), name: "c".into(), attempt: 0 },
            image: "i".into(),
            command: vec![],
            args: vec![],
            env: vec![("A".into(), "2".into()), ("PATH".into(), "/p".into())],
            working_dir: None,
            mounts: vec![],
            image_mounts: vec![],
            security: Security::default(),
            resources: Resources::default(),
            tty: false,
            stdin: false,
            stdin_once: false,
            log_path: "c/0.log".into(),
            stop_signal: None,
            join_process_namespace_of: None,
        }
    }

    fn strings(of: &[&str]) -> Vec<String> {
        of.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn command_and_arguments_override_the_image() {
        let image = ImageConfig { entrypoint: strings(&["e"]), command: strings(&["c"]), ..ImageConfig::default() };
        let with = |command: &[&str], args: &[&str]| {
            arguments(&ContainerSpec { command: strings(command), args: strings(args), ..container() }, &image)
                .join(" ")
        };
        assert_eq!(
            [with(&[], &[]), with(&[], &["a"]), with(&["x"], &[]), with(&["x"], &["a"])],
            ["e c", "e a", "x", "x a"]
        );
    }

    #[test]
    fn environment_is_overridden_in_place() {
        let image = ImageConfig { env: strings(&["PATH=/i", "A=1", "B=1"]), ..ImageConfig::default() };
        assert_eq!(environment(&container(), &image, "h"), ["PATH=/p", "A=2", "B=1", "HOSTNAME=h"]);
        assert_eq!(environment(&container(), &ImageConfig::default(), "h")[0], "PATH=/p");
    }

    #[test]
    fn deeper_mounts_come_later_and_own_mounts_replace_the_standard_ones() {
        let mut container = container();
        let target = |t: &str| Mount { source: "/s".into(), target: t.into(), ..Mount::default() };
        container.mounts = vec![target("/a/b"), target("/a"), target("/dev/shm")];
        let inputs = Inputs {
            container: &container,
            image: &ImageConfig { entrypoint: strings(&["e"]), ..ImageConfig::default() },
            user: User::default(),
            hostname: "h",
            host_network: false,
            root: "/r".into(),
            image_volumes: vec![],
            shm: "/shm".into(),
            cgroup: "/g",
            pure_v2: false,
            namespaces: vec![("mount", None), ("network", Some("/n".into()))],
            available: &[],
        };
        let targets: Vec<String> =
            mounts(&inputs).iter().map(|m| m["destination"].as_str().unwrap().to_owned()).collect();
        assert_eq!(targets.join(" "), "/proc /dev /dev/pts /dev/mqueue /sys /sys/fs/cgroup /a /a/b /dev/shm");
        let spec = build(&inputs).unwrap();
        let parsed: libcontainer::oci_spec::runtime::Spec = serde_json::from_value(spec).unwrap();
        assert_eq!(parsed.process().as_ref().unwrap().args().as_ref().unwrap(), &["e"]);
    }
}
