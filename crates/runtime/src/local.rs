//! The runtime as the kubelet sees it: a table of containers, kept in step with the shims, and the port's verbs.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt;
use futures::channel::mpsc;
use futures::stream::BoxStream;
use journal::RecordId;
use pods::ports::{
    ContainerId, ContainerPhase, ContainerSpec, ContainerState, ContainerStats, ExecSpec, Exit, Image, ImageUsage,
    Inventory, PullError, RegistryAuth, Resources, Runtime, RuntimeError, Sandbox, SandboxSpec, Session,
};

use crate::cgroup::Cgroups;
use crate::container::{self, Record};
use crate::images::node::NodeImages;
use crate::images::pull::Registry;
use crate::images::{Images, lock};
use crate::layout::Layout;
use crate::qos::Burstable;
use crate::sandbox;
use crate::shim::wire::{Started, to_shim};

/// How the runtime is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Survives a reboot: `/var/lib/windlass`.
    pub data: PathBuf,
    /// Need not survive a reboot: `/run/windlass`.
    pub run: PathBuf,
    /// The cgroup below which all pods are, `/windlass`.
    pub cgroup_root: String,
    /// The program that is started for helper processes: by default this very binary, `/proc/self/exe`.
    pub helper: PathBuf,
    /// Mirrors and special treatment of registries.
    pub registries: Vec<Registry>,
}

impl Config {
    pub fn new(data: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            run: run.into(),
            cgroup_root: "/windlass".into(),
            helper: "/proc/self/exe".into(),
            registries: Vec::new(),
        }
    }
}

/// Why the runtime cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("control groups: {0}")]
    Cgroups(io::Error),
    #[error("image store: {0}")]
    Images(io::Error),
    #[error("image registries: {0}")]
    Registries(String),
    #[error("the containers of {path} belong to another process that runs", path = .0.display())]
    InUse(PathBuf),
}

/// The state behind the handle.
pub struct Local {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) cgroups: Cgroups,
    pub(crate) images: NodeImages,
    pub(crate) available: Vec<String>,
    pub(crate) burstable: Burstable,
    /// Two processes would take each other's containers for leftovers.
    _alone: lock::Locked,
    table: Mutex<HashMap<ContainerId, Entry>>,
    watchers: Mutex<Vec<mpsc::UnboundedSender<(ContainerId, Exit)>>>,
}

/// One container in the table.
#[derive(Clone)]
pub(crate) struct Entry {
    pub record: Arc<Record>,
    pub started: Option<Started>,
    pub exit: Option<Exit>,
}

/// What is needed to enter a running container.
pub(crate) struct Running {
    pub pid: u32,
    pub start_ticks: u64,
    pub cgroup: String,
}

impl Entry {
    pub fn phase(&self) -> ContainerPhase {
        match (&self.started, &self.exit) {
            (_, Some(_)) => ContainerPhase::Exited,
            (Some(_), None) => ContainerPhase::Running,
            (None, None) => ContainerPhase::Created,
        }
    }

    pub fn state(&self) -> ContainerState {
        let phase = self.phase();
        ContainerState {
            id: self.record.spec.id.clone(),
            image: self.record.spec.image.clone(),
            image_id: self.record.image_reference.clone(),
            phase,
            pid: self.started.as_ref().filter(|_| phase == ContainerPhase::Running).map(|s| s.pid),
            created: self.record.created,
            started: self.started.as_ref().map(|s| s.started),
            exit: self.exit.clone(),
            log_path: self.record.log_file.clone(),
            stop_signal: self.record.stop_signal.clone(),
        }
    }
}

pub(crate) fn broken(e: impl std::fmt::Display) -> RuntimeError {
    RuntimeError::Broken(e.to_string())
}

/// Runs work that waits for the disk or the kernel outside the asynchronous threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work).await.map_err(broken)?
}

impl Local {
    async fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        let layout = Layout { data: config.data.clone(), run: config.run.clone() };
        layout.create().map_err(|source| OpenError::Io { path: config.data.clone(), source })?;
        let root = layout.root_mount();
        crate::container::make_private_mount(&root).map_err(|source| OpenError::Io { path: root, source })?;
        let alone = lock::try_exclusive(&config.data.join("containers.lock"))
            .map_err(|source| OpenError::Io { path: config.data.clone(), source })?
            .ok_or_else(|| OpenError::InUse(config.data.clone()))?;
        let images = NodeImages::open(&config)?;
        let local = Arc::new(Self {
            cgroups: Cgroups::detect().map_err(OpenError::Cgroups)?,
            available: crate::spec::capabilities::bounding(),
            images,
            burstable: Burstable::default(),
            _alone: alone,
            layout,
            config,
            table: Mutex::default(),
            watchers: Mutex::default(),
        });
        crate::inventory::adopt(&local)
            .await
            .map_err(|source| OpenError::Io { path: local.layout.containers(), source })?;
        Ok(local)
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, HashMap<ContainerId, Entry>> {
        // Each change is one insert or assignment: a panic elsewhere cannot leave it half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn entry(&self, id: &ContainerId) -> Result<Entry, RuntimeError> {
        self.table().get(id).cloned().ok_or_else(|| RuntimeError::NoSuchContainer(id.clone()))
    }

    pub(crate) fn running(&self, id: &ContainerId) -> Result<Running, RuntimeError> {
        let entry = self.entry(id)?;
        match (entry.phase(), entry.started) {
            (ContainerPhase::Running, Some(started)) => {
                Ok(Running { pid: started.pid, start_ticks: started.start_ticks, cgroup: entry.record.cgroup.clone() })
            }
            _ => Err(RuntimeError::NotRunning),
        }
    }

    /// Our own binary as a helper process, with an empty environment.
    pub(crate) fn helper_command(&self, role: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(&self.config.helper);
        command.arg0("windlass").arg(crate::HELPER).arg(role).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Waits for a helper so that it does not stay as a zombie; what it has to say comes over its socket.
    pub(crate) fn reap(&self, mut child: tokio::process::Child) {
        tokio::spawn(async move {
            let _status = child.wait().await;
        });
    }

    /// A container has ended: the table, then everybody who waits.
    pub(crate) fn ended(&self, id: &ContainerId, exit: &Exit) {
        {
            let mut table = self.table();
            let Some(entry) = table.get_mut(id).filter(|e| e.exit.is_none()) else { return };
            entry.exit = Some(exit.clone());
        }
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|w| w.unbounded_send((id.clone(), exit.clone())).is_ok());
    }

    pub(crate) fn watch_exits(&self) -> mpsc::UnboundedReceiver<(ContainerId, Exit)> {
        let (send, receive) = mpsc::unbounded();
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).push(send);
        receive
    }
}

/// The containers of this node, as others hold them: a handle that is cheap to clone.
#[derive(Clone)]
pub struct Containers(pub(crate) Arc<Local>);

impl Containers {
    /// Opens the directories, adopts what runs and forgets what died with an earlier boot. Needs a tokio runtime.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        Local::open(config).await.map(Self)
    }

    /// The image store, for importing and listing beside the port.
    pub fn images(&self) -> &Images {
        &self.0.images.store
    }

    /// Ends every container and takes away every sandbox, mount and cgroup of this runtime, for `windlass down` and
    /// `reset`. Images stay. What cannot be removed is reported, after everything else has been tried.
    pub async fn cleanup_everything(&self) -> Result<(), RuntimeError> {
        crate::teardown::cleanup_everything(&self.0).await
    }
}

#[async_trait]
impl Runtime for Containers {
    async fn inventory(&self) -> Result<Vec<Inventory>, RuntimeError> {
        crate::inventory::list(&self.0)
    }

    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError> {
        let (local, spec) = (self.0.clone(), spec.clone());
        blocking(move || sandbox::create(&local, &spec)).await
    }

    async fn remove_sandbox(&self, pod_uid: &str, _because: RecordId) -> Result<(), RuntimeError> {
        crate::teardown::remove_sandbox(&self.0, pod_uid).await
    }

    async fn update_sandbox(&self, pod_uid: &str, resources: &Resources) -> Result<(), RuntimeError> {
        let (local, uid, resources) = (self.0.clone(), pod_uid.to_owned(), resources.clone());
        blocking(move || sandbox::update(&local, &uid, &resources)).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerState, RuntimeError> {
        let (local, spec) = (self.0.clone(), spec.clone());
        blocking(move || container::create(&local, &spec)).await
    }

    async fn start_container(&self, id: &ContainerId) -> Result<ContainerState, RuntimeError> {
        container::start(&self.0, id).await
    }

    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<(), RuntimeError> {
        let entry = self.0.entry(id)?;
        self.0.cgroups.update(&entry.record.cgroup, resources).map_err(broken)
    }

    async fn signal(&self, id: &ContainerId, signal: i32, _because: RecordId) -> Result<(), RuntimeError> {
        container::ask(&self.0, id, to_shim::SIGNAL, &signal.to_le_bytes()).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        let (local, id) = (self.0.clone(), id.clone());
        blocking(move || container::remove(&local, &id)).await
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerState, RuntimeError> {
        Ok(self.0.entry(id)?.state())
    }

    fn exits(&self) -> BoxStream<'static, (ContainerId, Exit)> {
        self.0.watch_exits().boxed()
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session, RuntimeError> {
        crate::exec::exec(&self.0, id, spec).await
    }

    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session, RuntimeError> {
        crate::exec::attach(&self.0, id, stdin).await
    }

    async fn reopen_log(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        container::ask(&self.0, id, to_shim::REOPEN_LOG, b"").await
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, RuntimeError> {
        let local = self.0.clone();
        blocking(move || Ok(crate::inventory::stats(&local))).await
    }

    async fn pull(&self, image: &str, auth: &[RegistryAuth]) -> Result<Image, PullError> {
        self.0.images.pull(image, auth).await
    }

    async fn image(&self, image: &str) -> Result<Option<Image>, RuntimeError> {
        self.0.images.store.settled(image).await;
        Ok(self.0.images.store.find(image).map_err(broken)?.map(|i| i.image()))
    }

    async fn images(&self) -> Result<Vec<Image>, RuntimeError> {
        self.0.images.list().map_err(broken)
    }

    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError> {
        let (local, image) = (self.0.clone(), image.to_owned());
        blocking(move || local.images.remove(&image).map_err(broken)).await
    }

    async fn image_usage(&self) -> Result<ImageUsage, RuntimeError> {
        let local = self.0.clone();
        blocking(move || crate::inventory::usage(&local).map_err(broken)).await
    }
}
