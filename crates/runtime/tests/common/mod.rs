//! A runtime in directories of its own, and what tests do with it again and again.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "test code, of which each program uses a part")]
#![allow(unsafe_code, reason = "registering a descriptor that the registration owns")]

use std::path::Path;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use pods::ports::{
    ContainerId, ContainerSpec, ContainerState, Exit, Output, Resources, Runtime, RuntimeError, SandboxSpec, Security,
    Session,
};
use runtime::{Config, Containers, ImageConfig};

pub const IMAGE: &str = "windlass.test/busybox:1";
/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Node {
    pub runtime: Containers,
    pub directory: tempfile::TempDir,
}

pub fn config(directory: &Path) -> Config {
    let mut config = Config::new(directory.join("data"), directory.join("run"));
    config.cgroup_root =
        format!("/windlass-test-{}", directory.file_name().unwrap().to_string_lossy().trim_matches('.'));
    config.helper = env!("CARGO_BIN_EXE_container-helper").into();
    config
}

pub fn import_busybox(runtime: &Containers) {
    let config = ImageConfig { command: vec!["sh".into()], ..ImageConfig::default() };
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let fill = |tar: &mut tar::Builder<&mut dyn std::io::Write>| {
        let mut add = |path: &str, kind, mode, content: &[u8], link: Option<&str>| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(content.len() as u64);
            match link {
                Some(target) => tar.append_link(&mut header, path, target),
                None => tar.append_data(&mut header, path, content),
            }
        };
        use tar::EntryType::{Directory, Fifo, Regular, Symlink};
        for directory in ["bin/", "etc/", "tmp/", "root/"] {
            add(directory, Directory, 0o755, b"", None)?;
        }
        add("bin/busybox", Regular, 0o755, &busybox, None)?;
        for applet in
            "sh sleep cat echo id ps tail head yes ls touch wc df mknod grep hostname ip stty tty true".split(' ')
        {
            add(&format!("bin/{applet}"), Symlink, 0o777, b"", Some("busybox"))?;
        }
        add("etc/passwd", Regular, 0o644, b"root:x:0:0::/root:/bin/sh\n", None)?;
        add("fifo", Fifo, 0o666, b"", None)
    };
    runtime.images().import_rootfs(IMAGE, "1", &config, fill).unwrap();
}

/// An image of one file, `/text`.
pub fn import_text(runtime: &Containers, name: &str, text: &str) {
    let fill = |tar: &mut tar::Builder<&mut dyn std::io::Write>| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, "text", text.as_bytes())
    };
    runtime.images().import_rootfs(name, "1", &ImageConfig::default(), fill).unwrap();
}

/// For the files of one node.
pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("wl").tempdir_in("/var/tmp").unwrap()
}

impl Node {
    /// Needs root and a busybox to run.
    pub async fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "containers need root");
        assert!(Path::new("/bin/busybox").exists(), "package busybox-static is missing");
        let directory = directory();
        let runtime = Containers::open(config(directory.path())).await.unwrap();
        import_busybox(&runtime);
        Self { runtime, directory }
    }

    /// Another process in its place, with other settings.
    pub async fn reopen(self, config: Config) -> Self {
        let Self { runtime, directory } = self;
        drop(runtime);
        Self { runtime: Containers::open(config).await.unwrap(), directory }
    }

    pub async fn pod(&self) -> String {
        self.pod_with(|_| ()).await
    }

    pub async fn pod_with(&self, change: impl FnOnce(&mut SandboxSpec)) -> String {
        let uid = uuid::Uuid::new_v4().to_string();
        let mut spec = self.sandbox(&uid);
        change(&mut spec);
        self.runtime.create_sandbox(&spec).await.unwrap();
        uid
    }

    pub fn sandbox(&self, uid: &str) -> SandboxSpec {
        SandboxSpec {
            pod_uid: uid.into(),
            namespace: "ns".into(),
            name: "pod".into(),
            hostname: "the-host".into(),
            qos_class: "BestEffort".into(),
            log_directory: self.directory.path().join("log").join(uid),
            ..SandboxSpec::default()
        }
    }

    pub fn spec(&self, pod: &str, name: &str, command: &[&str]) -> ContainerSpec {
        ContainerSpec {
            id: ContainerId { pod_uid: pod.into(), name: name.into(), attempt: 0 },
            image: IMAGE.into(),
            command: command.iter().map(|s| (*s).into()).collect(),
            args: vec![],
            env: vec![],
            working_dir: None,
            mounts: vec![],
            image_mounts: vec![],
            security: Security::default(),
            resources: Resources::default(),
            tty: false,
            stdin: false,
            stdin_once: false,
            log_path: format!("{name}/0.log").into(),
            stop_signal: None,
            join_process_namespace_of: None,
        }
    }

    pub async fn create_and_start(&self, spec: &ContainerSpec) -> Result<ContainerState, RuntimeError> {
        self.runtime.create_container(spec).await?;
        self.runtime.start_container(&spec.id).await
    }

    pub async fn start(&self, pod: &str, name: &str, command: &[&str]) -> Result<ContainerId, RuntimeError> {
        let spec = self.spec(pod, name, command);
        self.create_and_start(&spec).await?;
        Ok(spec.id)
    }

    pub async fn wait(&self, id: &ContainerId) -> Exit {
        let mut exits = self.runtime.exits();
        if let Some(exit) = self.runtime.container(id).await.unwrap().exit {
            return exit;
        }
        let found =
            async { exits.by_ref().filter_map(async |(of, exit)| (of == *id).then_some(exit)).boxed().next().await };
        tokio::time::timeout(PATIENCE, found).await.expect("it does not end").unwrap()
    }

    pub fn log(&self, id: &ContainerId) -> String {
        log(self.directory.path(), id)
    }

    pub async fn log_contains(&self, id: &ContainerId, text: &str) {
        log_contains(self.directory.path(), id, text).await;
    }

    /// Private and proportional memory of one of this node's shims in kB.
    pub fn shim_memory(&self) -> (u64, u64) {
        let wanted = self.directory.path().to_string_lossy().into_owned();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            if command.contains("\0hold\0") && command.contains(&wanted) {
                let text = std::fs::read_to_string(process.path().join("smaps_rollup")).unwrap_or_default();
                let value = |key: &str| -> u64 {
                    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or("0");
                    line.split_whitespace().next().unwrap_or("0").parse().unwrap_or(0)
                };
                return (value("Private_Dirty:") + value("Private_Clean:"), value("Pss:"));
            }
        }
        (0, 0)
    }

    pub async fn down(self) {
        self.runtime.cleanup_everything().await.unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = self.directory.path().to_string_lossy().into_owned();
        assert!(!mounts.contains(&path), "mounts are left");
    }
}

/// Runs a session to its end: standard output, standard error, exit code.
pub async fn collect(mut session: Session, input: Option<&str>) -> (String, String, i32) {
    if let (Some(input), Some(stdin)) = (input, &mut session.stdin) {
        stdin.send(input.to_owned().into()).await.unwrap();
    }
    session.stdin = None;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let all = async {
        while let Some(piece) = session.output.next().await {
            match piece {
                Output::Stdout(data) => out.extend_from_slice(&data),
                Output::Stderr(data) => err.extend_from_slice(&data),
            }
        }
        session.exit.await.unwrap()
    };
    let code = tokio::time::timeout(PATIENCE, all).await.expect("the session does not end");
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code)
}

/// What a container of the node in a directory has written.
pub fn log(node: &Path, id: &ContainerId) -> String {
    std::fs::read_to_string(node.join("log").join(&id.pod_uid).join(&id.name).join("0.log")).unwrap_or_default()
}

/// Waits until the log has it, woken by the file's changes.
pub async fn log_contains(node: &Path, id: &ContainerId, text: &str) {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let inotify = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    let directory = node.join("log").join(&id.pod_uid).join(&id.name);
    add_watch(&inotify, &directory, WatchFlags::MODIFY | WatchFlags::CREATE).unwrap();
    let watched = unsafe { tokio::io::unix::AsyncFd::register(inotify) }.unwrap();
    let found = async {
        while !log(node, id).contains(text) {
            let mut ready = watched.readable().await.unwrap();
            let _events = rustix::io::read(watched.get_ref(), &mut [0u8; 4096]);
            ready.clear_ready();
        }
    };
    let waited = tokio::time::timeout(PATIENCE, found).await;
    assert!(waited.is_ok(), "{text:?} does not come: {}", log(node, id));
}
