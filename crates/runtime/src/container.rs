//! One container from order to removal: its files, its shim, the questions that its shim answers.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pods::ports::{ContainerId, ContainerPhase, ContainerSpec, ContainerState, Exit, ImageMount, RuntimeError};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::images::lock::Lease;
use crate::images::store::Stored;
use crate::images::user::{Accounts, check_not_root, resolve};
use crate::layout::{short, write_atomically};
use crate::local::{Entry, Local, broken};
use crate::sandbox::{self, SandboxRecord};
use crate::shim::launch::Launch;
use crate::shim::mounts::{ImageLayers, ROOT, volume_name};
use crate::shim::wire::{self, Failed, Started, from_shim, to_shim};
use crate::spec::{self, Inputs};

/// What stands in `container.json`: a container as it was made, for adoption.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Record {
    pub spec: ContainerSpec,
    pub image_reference: String,
    pub layers: Vec<String>,
    /// Layers of the images that are mounted as volumes.
    #[serde(default)]
    pub volume_layers: Vec<String>,
    pub created: jiff::Timestamp,
    pub log_file: PathBuf,
    pub cgroup: String,
    pub stop_signal: Option<String>,
}

/// An operation that a shim answers takes no longer unless the machine stands still.
const SHIM_PATIENCE: Duration = Duration::from_secs(10);

/// Makes a directory a mount of its own that tells nobody about mounts below it. Once for all, over restarts.
pub fn make_private_mount(path: &Path) -> io::Result<()> {
    let wanted = path.to_string_lossy().into_owned();
    let mounted =
        std::fs::read_to_string("/proc/self/mountinfo")?.lines().any(|l| l.split(' ').nth(4) == Some(wanted.as_str()));
    if !mounted {
        mount_bind(path, path)?;
    }
    Ok(mount_change(path, MountPropagationFlags::PRIVATE)?)
}

/// The images of one container, which stay as long as this is held.
struct ImagesOf {
    root: Stored,
    /// One for each of the order's `image_mounts`.
    volumes: Vec<Stored>,
    _lease: Lease,
}

fn images_of(local: &Local, spec: &ContainerSpec) -> Result<ImagesOf, RuntimeError> {
    let names: Vec<&str> = std::iter::once(&spec.image)
        .chain(spec.image_mounts.iter().map(|mount| &mount.image))
        .map(String::as_str)
        .collect();
    let (found, lease) = local.images.store.find_and_lease(&names).map_err(broken)?;
    let mut found = found.into_iter().zip(&names).map(|(image, name)| {
        image.ok_or_else(|| RuntimeError::Broken(format!("failed to resolve image {name:?}: not found")))
    });
    let root = found.next().ok_or_else(|| broken("no image"))??;
    Ok(ImagesOf { root, volumes: found.collect::<Result<_, _>>()?, _lease: lease })
}

pub fn create(local: &Local, spec: &ContainerSpec) -> Result<ContainerState, RuntimeError> {
    if let Ok(entry) = local.entry(&spec.id) {
        return Ok(entry.state());
    }
    let sandbox_directory = local.layout.sandbox(&spec.id.pod_uid);
    let sandbox =
        sandbox::read(&sandbox_directory).ok_or_else(|| RuntimeError::NoSuchSandbox(spec.id.pod_uid.clone()))?;
    let images = images_of(local, spec)?;
    let pod = format!("{}_{}({})", sandbox.spec.name, sandbox.spec.namespace, sandbox.spec.pod_uid);
    check_not_root(&spec.security, images.root.config.user.as_deref(), &pod, &spec.id.name)
        .map_err(RuntimeError::CreateConfig)?;
    let made = make(local, spec, &sandbox, &sandbox_directory, &images);
    match made {
        Ok(record) => {
            let entry = Entry { record: Arc::new(record), started: None, exit: None };
            let state = entry.state();
            local.table().insert(spec.id.clone(), entry);
            Ok(state)
        }
        Err(e) => {
            let _removed = std::fs::remove_dir_all(local.layout.container(&spec.id));
            let _removed = local.cgroups.remove(&cgroup_of(&sandbox, &spec.id));
            Err(e)
        }
    }
}

fn cgroup_of(sandbox: &SandboxRecord, id: &ContainerId) -> String {
    format!("{}/{}", sandbox.cgroup, short(id))
}

fn make(
    local: &Local,
    spec: &ContainerSpec,
    sandbox: &SandboxRecord,
    sandbox_directory: &Path,
    images: &ImagesOf,
) -> Result<Record, RuntimeError> {
    let image = &images.root;
    let directory = local.layout.container(&spec.id);
    match std::fs::remove_dir_all(&directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(broken(e)),
        _ => {}
    }
    std::fs::create_dir_all(directory.join("upper")).map_err(broken)?;
    std::fs::create_dir_all(directory.join("work")).map_err(broken)?;
    let cgroup = cgroup_of(sandbox, &spec.id);
    local.cgroups.create(&cgroup, &spec.resources).map_err(broken)?;
    local.cgroups.end_as_a_whole(&cgroup).map_err(broken)?;
    if !spec.security.privileged {
        local.cgroups.restrict_devices(&cgroup).map_err(broken)?;
    }
    let accounts = Accounts::read(&local.images.store.layers(), &image.layers);
    let user = resolve(&spec.security, image.config.user.as_deref(), &accounts).map_err(RuntimeError::Broken)?;
    let root_mount = local.layout.root_mount();
    let shm = if sandbox.spec.host_ipc { PathBuf::from("/dev/shm") } else { sandbox_directory.join("shm") };
    let hostname = if sandbox.spec.host_network { host_name() } else { sandbox.spec.hostname.clone() };
    let inputs = Inputs {
        container: spec,
        image: &image.config,
        user,
        hostname: &hostname,
        host_network: sandbox.spec.host_network,
        root: root_mount.join(ROOT),
        image_volumes: (0..spec.image_mounts.len()).map(|i| root_mount.join(volume_name(i))).collect(),
        shm,
        cgroup: &cgroup,
        pure_v2: local.cgroups.pure_v2,
        namespaces: namespaces(local, spec, sandbox, sandbox_directory)?,
        available: &local.available,
    };
    let oci = spec::build(&inputs).map_err(RuntimeError::Broken)?;
    let record = Record {
        spec: spec.clone(),
        image_reference: image.reference(),
        layers: image.layers.clone(),
        volume_layers: images.volumes.iter().flat_map(|volume| volume.layers.iter().cloned()).collect(),
        created: jiff::Timestamp::now(),
        log_file: sandbox.spec.log_directory.join(&spec.log_path),
        cgroup,
        stop_signal: spec.stop_signal.clone().or_else(|| image.config.stop_signal.clone()),
    };
    let launch = launch_of(local, spec, images, &record);
    let write = |name: &str, content: serde_json::Result<Vec<u8>>| -> Result<(), RuntimeError> {
        std::fs::write(directory.join(name), content.map_err(broken)?).map_err(broken)
    };
    write("config.json", serde_json::to_vec(&oci))?;
    write("launch.json", serde_json::to_vec(&launch))?;
    // The record comes last: without it the directory is rubbish for adoption to remove.
    write_atomically(&directory.join("container.json"), &serde_json::to_vec(&record).map_err(broken)?)
        .map_err(broken)?;
    Ok(record)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn namespaces(
    local: &Local,
    spec: &ContainerSpec,
    sandbox: &SandboxRecord,
    directory: &Path,
) -> Result<Vec<(&'static str, Option<PathBuf>)>, RuntimeError> {
    let mut all = vec![("mount", None)];
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        if let Some(pin) = sandbox::namespace(directory, name) {
            all.push((kind, Some(pin)));
        }
    }
    if let Some(other) = &spec.join_process_namespace_of {
        let pid = local.running(other)?.pid;
        all.push(("pid", Some(format!("/proc/{pid}/ns/pid").into())));
    } else if !sandbox.spec.host_pid {
        all.push(("pid", sandbox::namespace(directory, "pid")));
    }
    if local.cgroups.pure_v2 && !spec.security.privileged {
        all.push(("cgroup", None));
    }
    Ok(all)
}

fn launch_of(local: &Local, spec: &ContainerSpec, images: &ImagesOf, record: &Record) -> Launch {
    let volume = |(mount, image): (&ImageMount, &Stored)| ImageLayers {
        layers: image.layers.clone(),
        sub_path: mount.sub_path.clone(),
    };
    let oci_namespaces_shared = sandbox::read(&local.layout.sandbox(&spec.id.pod_uid))
        .is_some_and(|s| s.spec.host_pid || s.spec.share_process_namespace);
    let shares_processes = oci_namespaces_shared || spec.join_process_namespace_of.is_some();
    Launch {
        short: short(&spec.id),
        libcontainer_root: local.layout.libcontainer(),
        socket: local.layout.socket(&spec.id),
        root_mount: local.layout.root_mount(),
        layers_directory: local.images.store.layers(),
        layers: images.root.layers.clone(),
        image_volumes: spec.image_mounts.iter().zip(&images.volumes).map(volume).collect(),
        log_file: record.log_file.clone(),
        tty: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        working_directory: spec::working_directory(spec, &images.root.config).into(),
        oom_score_adj: spec.resources.oom_score_adj,
        container_procs: local.cgroups.procs_beside(&record.cgroup),
        shim_procs: local.shim_procs(),
        oom_file: local.cgroups.oom_file(&record.cgroup),
        leftover_procs: shares_processes
            .then(|| local.cgroups.controller("pids", &record.cgroup).map(|d| d.join("cgroup.procs")))
            .flatten(),
    }
}

impl Local {
    /// Where shims stand: beside the pods, so that neither a pod's limits nor the end of the service that runs this
    /// process touch them.
    fn shim_procs(&self) -> Vec<PathBuf> {
        // A process that belongs to no service needs no moving, and each move waits for the kernel's readers.
        self.cgroups.own_procs_beside(&format!("{}/shims", self.config.cgroup_root))
    }
}

/// containerd internal/cri/server/container_start.go: the code of a container that could not be started.
const START_ERROR_CODE: i32 = 128;

fn start_error(failed: Failed) -> RuntimeError {
    const AS_CONTAINERD: &str = "failed to create containerd task: failed to create shim task: OCI runtime create \
                                 failed: runc create failed: unable to start container process";
    match failed {
        Failed::CannotRun { message, .. } => RuntimeError::CannotRun {
            code: START_ERROR_CODE,
            message: format!("{AS_CONTAINERD}: error during container init: {message}: unknown"),
        },
        Failed::Broken(why) => RuntimeError::Broken(format!("failed to create containerd task: {why}")),
    }
}

pub async fn start(local: &Arc<Local>, id: &ContainerId) -> Result<ContainerState, RuntimeError> {
    let entry = local.entry(id)?;
    if entry.phase() != ContainerPhase::Created {
        return Err(RuntimeError::Broken(format!("container {}/{} has been started before", id.pod_uid, id.name)));
    }
    let (ours, theirs) = StdUnixStream::pair().map_err(broken)?;
    let mut command = local.helper_command("shim");
    command.arg(local.layout.container(id)).stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = tokio::process::Command::from(command)
        .spawn()
        .map_err(|e| RuntimeError::Broken(format!("start the container's shim: {e}")))?;
    local.reap(child);
    ours.set_nonblocking(true).map_err(broken)?;
    let mut control = UnixStream::from_std(ours).map_err(broken)?;
    let answer = wire::read_frame_async(&mut control).await;
    match answer {
        Ok((from_shim::STARTED, payload)) => {
            let started: Started = serde_json::from_slice(&payload).map_err(broken)?;
            if let Some(entry) = local.table().get_mut(id) {
                entry.started = Some(started);
            }
            tokio::spawn(watch(Arc::downgrade(local), id.clone(), control));
            Ok(local.entry(id)?.state())
        }
        Ok((from_shim::FAILED, payload)) => {
            let failed: Failed = serde_json::from_slice(&payload).map_err(broken)?;
            let error = start_error(failed);
            never_ran(local, id);
            Err(error)
        }
        Ok(_) => Err(broken("the container's shim spoke out of turn")),
        Err(e) => {
            never_ran(local, id);
            Err(RuntimeError::Broken(format!("the container's shim ended: {e}")))
        }
    }
}

/// A container that could not be started counts as one that ended at once.
fn never_ran(local: &Local, id: &ContainerId) {
    let now = jiff::Timestamp::now();
    let exit = Exit { code: START_ERROR_CODE, signal: None, oom_killed: false, started: now, finished: now };
    record_exit(local, id, &exit);
    if let Some(entry) = local.table().get_mut(id) {
        entry.exit = Some(exit);
    }
    let _unlinked = std::fs::remove_file(local.layout.socket(id));
}

fn record_exit(local: &Local, id: &ContainerId, exit: &Exit) {
    let written = serde_json::to_vec(exit)
        .map_err(io::Error::from)
        .and_then(|text| write_atomically(&local.layout.container(id).join("exit.json"), &text));
    if let Err(e) = written {
        tracing::warn!(container = id.name, pod = id.pod_uid, error = %e, "cannot record a container's exit");
    }
}

/// Reads `exit.json`, or its copy for when the data directory's disk was full.
pub fn read_exit(local: &Local, id: &ContainerId) -> Option<Exit> {
    let places = [local.layout.container(id).join("exit.json"), local.layout.socket(id).with_extension("exit")];
    places.iter().find_map(|p| serde_json::from_slice(&std::fs::read(p).ok()?).ok())
}

/// Waits for the end of a container on a connection to its shim.
pub async fn watch(local: Weak<Local>, id: ContainerId, mut control: UnixStream) {
    let told = loop {
        match wire::read_frame_async(&mut control).await {
            Ok((from_shim::EXIT, exit)) => break serde_json::from_slice::<Exit>(&exit).ok(),
            Ok(_) => {}
            Err(_) => break None,
        }
    };
    let Some(local) = local.upgrade() else { return };
    let exit = match told.or_else(|| read_exit(&local, &id)) {
        Some(exit) => exit,
        None => lost(&local, &id).await,
    };
    local.ended(&id, &exit);
}

/// The shim is gone without a word (somebody killed it): nobody keeps the container's streams or will know how it ends, so
/// it is ended here, as containerd does when a shim dies.
pub async fn lost(local: &Arc<Local>, id: &ContainerId) -> Exit {
    let finished = jiff::Timestamp::now();
    let entry = local.entry(id).ok();
    let started = entry.as_ref().and_then(|e| e.started.as_ref()).map_or(finished, |s| s.started);
    if let Some(entry) = entry {
        tracing::error!(container = id.name, pod = id.pod_uid, "a container's shim is gone: ending the container");
        let (shared, cgroup) = (local.clone(), entry.record.cgroup.clone());
        let killed = tokio::task::spawn_blocking(move || shared.cgroups.kill(&cgroup, SHIM_PATIENCE)).await;
        if let Ok(Err(e)) = killed {
            tracing::error!(container = id.name, error = %e, "cannot end a container without a shim");
        }
    }
    let exit = Exit { code: 137, signal: Some(9), oom_killed: false, started, finished };
    record_exit(local, id, &exit);
    exit
}

/// Sends one request to a container's shim and waits for its answer.
pub async fn ask(local: &Local, id: &ContainerId, kind: u8, payload: &[u8]) -> Result<(), RuntimeError> {
    local.running(id)?;
    let asked = async {
        let mut socket = UnixStream::connect(local.layout.socket(id)).await.map_err(|_| RuntimeError::NotRunning)?;
        socket.write_all(&wire::encode(kind, payload)).await.map_err(|_| RuntimeError::NotRunning)?;
        match wire::read_frame_async(&mut socket).await {
            Ok((from_shim::OK, _)) => Ok(()),
            Ok((_, why)) => Err(RuntimeError::Broken(String::from_utf8_lossy(&why).into_owned())),
            Err(_) => Err(RuntimeError::NotRunning),
        }
    };
    tokio::time::timeout(SHIM_PATIENCE, asked).await.map_err(|_| broken("the container's shim does not answer"))?
}

/// Connects to a shim and asks it to tell the exit on this connection. `None` when there is no shim (any more).
pub async fn reconnect(socket: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    stream.write_all(&wire::encode(to_shim::WATCH, b"")).await.ok()?;
    let answer = tokio::time::timeout(SHIM_PATIENCE, wire::read_frame_async(&mut stream)).await.ok()?.ok()?;
    (answer.0 == from_shim::OK).then_some(stream)
}

pub fn remove(local: &Local, id: &ContainerId) -> Result<(), RuntimeError> {
    let entry = match local.entry(id) {
        Ok(entry) => entry,
        Err(_) => return Ok(()),
    };
    if entry.phase() == ContainerPhase::Running {
        return Err(RuntimeError::Broken(format!("container {}/{} is still running", id.pod_uid, id.name)));
    }
    local.cgroups.kill(&entry.record.cgroup, SHIM_PATIENCE).map_err(broken)?;
    local.cgroups.remove(&entry.record.cgroup).map_err(broken)?;
    for path in [local.layout.socket(id), local.layout.socket(id).with_extension("exit")] {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(broken(e)),
            _ => {}
        }
    }
    match std::fs::remove_dir_all(local.layout.container(id)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(broken(e)),
        _ => {}
    }
    local.table().remove(id);
    Ok(())
}
