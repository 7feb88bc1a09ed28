//! The ports a node's pods need from the world: a container `Runtime` and a pod `Network`. Implementations live in
//! `runtime` and `net`; the kubelet is handed them and knows neither.
//!
//! Identity is simple on purpose. A sandbox is named by its pod's uid. A container is named by pod uid, container name
//! and attempt (0, 1, 2 ... as it is restarted), so that adoption after a restart needs no table.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;
use journal::RecordId;

/// One container of one pod. Shown and stored as `windlass://<pod uid>/<name>/<attempt>` (`ContainerStatus.containerID`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ContainerId {
    pub pod_uid: String,
    pub name: String,
    pub attempt: u32,
}

/// What a sandbox is made of: the namespaces, cgroup and files that all containers of a pod share.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SandboxSpec {
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    pub hostname: String,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    pub share_process_namespace: bool,
    /// `hostUsers: false`: containers run in a user namespace of their own.
    pub user_namespace: bool,
    /// `Guaranteed`, `Burstable` or `BestEffort`: names the parent cgroup.
    pub qos_class: String,
    /// The whole pod's limits, put on its cgroup.
    pub resources: Resources,
    pub sysctls: BTreeMap<String, String>,
    /// Where container logs go: `/var/log/pods/<namespace>_<name>_<uid>`.
    pub log_directory: PathBuf,
    pub privileged: bool,
}

/// Where the runtime put a sandbox.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sandbox {
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    /// The bind-mounted network namespace; `None` with the host's network.
    pub network_namespace: Option<PathBuf>,
    pub created: Timestamp,
}

/// A mount inside a container, its source already resolved to a safe host path by the kubelet's volume code.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Mount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
    pub recursive_read_only: bool,
    /// `None`, `HostToContainer` or `Bidirectional`.
    pub propagation: Option<String>,
}

/// An image mounted as a volume (`volumes[].image`).
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct ImageMount {
    pub image: String,
    pub target: PathBuf,
    pub sub_path: Option<PathBuf>,
}

/// Limits and shares as cgroups understand them; `None` means unlimited.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Resources {
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU a period; the period is `cpu_period_us`.
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: Option<u64>,
    pub memory_limit_bytes: Option<u64>,
    pub pids_limit: Option<i64>,
    pub oom_score_adj: Option<i32>,
    /// `2Mi` or `1Gi` page size to limit in bytes.
    pub huge_pages_bytes: BTreeMap<String, u64>,
}

/// The security context after pod, container and image have been merged.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Security {
    pub privileged: bool,
    /// Numeric user, or `None` to use the image's.
    pub user: Option<i64>,
    pub group: Option<i64>,
    pub supplemental_groups: Vec<i64>,
    /// `Merge` (default) or `Strict`: whether groups of the image's /etc/group are added.
    pub supplemental_groups_policy: Option<String>,
    /// Refuse to start when the resolved user is root (`runAsNonRoot`).
    pub must_not_be_root: bool,
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    pub read_only_root: bool,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// `Default` masks parts of /proc; `Unmasked` does not.
    pub unmasked_proc: bool,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Seccomp {
    #[default]
    Unconfined,
    RuntimeDefault,
    /// A profile in the OCI JSON form, by host path.
    Localhost(PathBuf),
}

/// Everything the runtime needs to make one container.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct ContainerSpec {
    pub id: ContainerId,
    /// The reference the user wrote; it has been pulled or found before.
    pub image: String,
    /// Overrides of the image's entrypoint and command, `$(VAR)` already expanded; empty means the image's own.
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    pub mounts: Vec<Mount>,
    pub image_mounts: Vec<ImageMount>,
    pub security: Security,
    pub resources: Resources,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    /// The CRI-format log file, relative to the sandbox's log directory: `<container>/<attempt>.log`.
    pub log_path: PathBuf,
    /// Name of a signal (`SIGUSR1`) that `lifecycle.stopSignal` sets, else the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// Ephemeral containers and `shareProcessNamespace` join another container's process namespace.
    pub join_process_namespace_of: Option<ContainerId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ContainerPhase {
    Created,
    Running,
    Exited,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Exit code as the shell counts it: 128 + signal when a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    /// The kernel's OOM killer ended a process of this container.
    pub oom_killed: bool,
    pub started: Timestamp,
    pub finished: Timestamp,
}

/// One container as the runtime sees it, also after a restart of the node's process.
#[derive(Clone, Debug)]
pub struct ContainerState {
    pub id: ContainerId,
    pub image: String,
    pub image_id: String,
    pub phase: ContainerPhase,
    pub pid: Option<u32>,
    pub created: Timestamp,
    pub started: Option<Timestamp>,
    pub exit: Option<Exit>,
    pub log_path: PathBuf,
    pub stop_signal: Option<String>,
}

/// A sandbox with its containers, as found on disk at start.
#[derive(Clone, Debug)]
pub struct Inventory {
    pub sandbox: Sandbox,
    pub containers: Vec<ContainerState>,
}

/// An image in the local store.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// `sha256:...` of the image's configuration.
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size_bytes: u64,
    /// The image's own user, for `runAsNonRoot`.
    pub user: Option<String>,
    pub pinned: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
    pub identity_token: Option<String>,
}

/// A command to run in a running container.
#[derive(Clone, Debug, Default)]
pub struct ExecSpec {
    pub argv: Vec<String>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Output of an exec or attach session.
#[derive(Debug)]
pub enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
}

/// A running exec or attach. Dropping it closes the streams; it does not end the process of an attach.
pub struct Session {
    /// Write here; drop to close the process's standard input. `None` when the session was opened without stdin.
    pub stdin: Option<futures::channel::mpsc::Sender<Bytes>>,
    /// Ends when the process has ended and all output has been read.
    pub output: BoxStream<'static, Output>,
    /// Terminal sizes (columns, rows).
    pub resize: futures::channel::mpsc::Sender<(u16, u16)>,
    /// Resolves after the process has ended: its exit code, or why it could not be known.
    pub exit: futures::future::BoxFuture<'static, Result<i32, RuntimeError>>,
    /// Ends an exec's own process (an attach ignores it); used when a probe's deadline passes.
    pub kill: Box<dyn FnOnce() + Send>,
}

#[derive(Clone, Debug, Default)]
pub struct ContainerStats {
    pub id: Option<ContainerId>,
    pub at: Timestamp,
    pub cpu_usage_core_ns: u64,
    pub memory_usage_bytes: u64,
    pub memory_working_set_bytes: u64,
    pub memory_rss_bytes: u64,
    pub pids: u64,
    pub rootfs_used_bytes: u64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("container {0:?} does not exist")]
    NoSuchContainer(ContainerId),
    #[error("sandbox of pod {0} does not exist")]
    NoSuchSandbox(String),
    #[error("container is not running")]
    NotRunning,
    /// The image's user is root, or not numeric, and `runAsNonRoot` is set; the text is upstream's.
    #[error("{0}")]
    CreateConfig(String),
    /// The program could not be executed (`exec: "x": executable file not found in $PATH` ...): exit code 127/126/128.
    #[error("{message}")]
    CannotRun { code: i32, message: String },
    /// The runtime itself failed: nothing is known about the container's health.
    #[error("{0}")]
    Broken(String),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum PullError {
    #[error("couldn't parse image name {0:?}: invalid reference format")]
    InvalidName(String),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Unauthorized(String),
    #[error("{0}")]
    Registry(String),
    #[error("digest mismatch: expected {expected}, got {actual}")]
    Digest { expected: String, actual: String },
    #[error("{0}")]
    Disk(String),
}

/// Containers, images and their files on this node.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Every sandbox and container there is, running or not, for adoption at start.
    async fn inventory(&self) -> Result<Vec<Inventory>, RuntimeError>;
    /// Makes namespaces and cgroup; the network namespace has `lo` up and nothing else. Idempotent.
    async fn create_sandbox(&self, spec: &SandboxSpec) -> Result<Sandbox, RuntimeError>;
    /// Kills what still runs in the pod's cgroup and removes containers, mounts, namespaces and cgroup. Idempotent.
    async fn remove_sandbox(&self, pod_uid: &str, because: RecordId) -> Result<(), RuntimeError>;
    async fn update_sandbox(&self, pod_uid: &str, resources: &Resources) -> Result<(), RuntimeError>;

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerState, RuntimeError>;
    async fn start_container(&self, id: &ContainerId) -> Result<ContainerState, RuntimeError>;
    async fn update_container(&self, id: &ContainerId, resources: &Resources) -> Result<(), RuntimeError>;
    /// Sends a signal to the container's first process. The journal record that explains it comes first.
    async fn signal(&self, id: &ContainerId, signal: i32, because: RecordId) -> Result<(), RuntimeError>;
    /// Removes an exited container's root file system and state; its log stays. Idempotent.
    async fn remove_container(&self, id: &ContainerId) -> Result<(), RuntimeError>;
    async fn container(&self, id: &ContainerId) -> Result<ContainerState, RuntimeError>;
    /// Every exit from now on, each once; exits that happened before the call are seen in `inventory`.
    fn exits(&self) -> BoxStream<'static, (ContainerId, Exit)>;

    /// Launches a command in a running container. An `Err` means that it never ran.
    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Session, RuntimeError>;
    async fn attach(&self, id: &ContainerId, stdin: bool) -> Result<Session, RuntimeError>;
    /// Asks the log writer to open its file anew after the kubelet has renamed it.
    async fn reopen_log(&self, id: &ContainerId) -> Result<(), RuntimeError>;
    async fn stats(&self) -> Result<Vec<ContainerStats>, RuntimeError>;

    async fn pull(&self, image: &str, auth: &[RegistryAuth]) -> Result<Image, PullError>;
    async fn image(&self, image: &str) -> Result<Option<Image>, RuntimeError>;
    async fn images(&self) -> Result<Vec<Image>, RuntimeError>;
    async fn remove_image(&self, image: &str) -> Result<(), RuntimeError>;
    /// Bytes used by images, and the file system they are on. Asked every few seconds: it looks at no container.
    async fn image_usage(&self) -> Result<ImageUsage, RuntimeError>;
}

#[derive(Clone, Debug, Default)]
pub struct ImageUsage {
    pub image_bytes: u64,
    pub capacity_bytes: u64,
    pub available_bytes: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// What the network needs to know of a pod.
#[derive(Clone, Debug, Default)]
pub struct PodNetwork {
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    pub network_namespace: PathBuf,
    pub host_ports: Vec<HostPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// `None` means every address of the node.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("no free address in {0}")]
    Exhausted(String),
    #[error("{0}")]
    Failed(String),
}

/// The pod network on this node.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Gives the sandbox its interface and addresses (first one is `status.podIP`) and opens its host ports. Idempotent:
    /// called again for an adopted pod it returns the addresses that it has.
    async fn attach(&self, pod: &PodNetwork) -> Result<Vec<IpAddr>, NetworkError>;
    /// Takes back what `attach` gave. Idempotent, and works when the namespace is already gone.
    async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError>;
    /// Pods that hold an address although the kubelet does not know them are released.
    async fn retain(&self, pod_uids: &[String]) -> Result<(), NetworkError>;
    /// `None` when pods can have a network now, else why not (the node's `NetworkUnavailable` condition).
    async fn ready(&self) -> Option<String>;
}
