//! The shim's first life: makes the container with libcontainer, starts it, reports, and becomes `hold`.
//!
//! Its own mount namespace exists only while the container is made: the root overlay is mounted in it and lives on in the
//! container's namespace alone, so that nothing is left mounted when the container ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::io::FdFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::mounts::{self, ImageLayers};
use super::program::Program;
use super::wire::{self, Failed, Started, from_shim};

/// Everything the shim has to know, beside the OCI specification (`config.json`) in the same directory.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Launch {
    pub short: String,
    pub libcontainer_root: PathBuf,
    pub socket: PathBuf,
    /// A private mount under which this shim may mount without anybody seeing it.
    pub root_mount: PathBuf,
    pub layers_directory: PathBuf,
    /// Directory names below `layers_directory`, the topmost first.
    pub layers: Vec<String>,
    pub image_volumes: Vec<ImageLayers>,
    pub log_file: PathBuf,
    pub tty: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub working_directory: PathBuf,
    pub oom_score_adj: Option<i32>,
    /// `cgroup.procs` files that libcontainer does not write: the unified hierarchy beside v1, systemd's own.
    pub container_procs: Vec<PathBuf>,
    /// `cgroup.procs` files that take the shim out of the service that started it.
    pub shim_procs: Vec<PathBuf>,
    /// Counts the OOM killer's victims in this container.
    pub oom_file: PathBuf,
    /// Without a process namespace of its own, what the container leaves behind is killed by its cgroup.
    pub leftover_procs: Option<PathBuf>,
}

/// The ends of a container's streams that the shim keeps.
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

struct Launched {
    started: Started,
    streams: Streams,
    log: File,
    listener: UnixListener,
}

pub fn main(directory: &str) -> i32 {
    let directory = Path::new(directory);
    let Some(control) = take_control() else { return 70 };
    let launch = match read_launch(directory) {
        Ok(launch) => launch,
        Err(e) => return report(&control, &Failed::Broken(format!("launch.json: {e}"))),
    };
    match run(directory, &launch) {
        Ok(launched) => become_hold(directory, &launch, control, launched),
        Err(failed) => report(&control, &failed),
    }
}

fn read_launch(directory: &Path) -> io::Result<Launch> {
    Ok(serde_json::from_slice(&std::fs::read(directory.join("launch.json"))?)?)
}

fn report(mut control: &UnixStream, failed: &Failed) -> i32 {
    let Ok(payload) = serde_json::to_vec(failed) else { return 70 };
    i32::from(wire::write_frame(&mut control, from_shim::FAILED, &payload).is_err())
}

/// The control socket comes as standard input; it moves up so that the container cannot inherit it as a stream.
#[allow(unsafe_code, reason = "descriptor 0 is the socket the parent gave, duplicated before 0 is replaced")]
pub fn take_control() -> Option<UnixStream> {
    let copy = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 10).ok()?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").ok()?;
    rustix::stdio::dup2_stdin(&null).ok()?;
    Some(UnixStream::from(copy))
}

fn broken(what: &str) -> impl Fn(io::Error) -> Failed + '_ {
    move |e| Failed::Broken(format!("{what}: {e}"))
}

fn run(directory: &Path, launch: &Launch) -> Result<Launched, Failed> {
    detach(launch);
    let log = open_log(&launch.log_file).map_err(broken("open the container's log"))?;
    let _stale = std::fs::remove_file(&launch.socket);
    let listener = UnixListener::bind(&launch.socket).map_err(broken("bind the shim's socket"))?;
    let home = File::open("/proc/self/ns/mnt").map_err(broken("open the mount namespace"))?;
    mounts::mount_root(directory, launch).map_err(broken("mount the container's root"))?;
    let made = build_and_start(directory, launch);
    // Back to the host's mounts, so that this process keeps none of them busy.
    rustix::thread::move_into_link_name_space(home.as_fd(), Some(rustix::thread::LinkNameSpaceType::Mount))
        .map_err(|e| Failed::Broken(format!("return to the host's mount namespace: {e}")))?;
    let state = launch.libcontainer_root.join(&launch.short);
    let _gone = std::fs::remove_dir_all(state);
    let (started, streams) = made?;
    let state = serde_json::to_vec(&started).map_err(|e| Failed::Broken(e.to_string()))?;
    crate::layout::write_atomically(&directory.join("state.json"), &state).map_err(broken("write state.json"))?;
    Ok(Launched { started, streams, log, listener })
}

/// Leaves the session, the service and the OOM killer's first choice of whoever started this process.
fn detach(launch: &Launch) {
    let _session = rustix::process::setsid();
    let _reaper = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // Lowering needs a privilege that not every machine gives; the container does not depend on it.
    let _lowered = std::fs::write("/proc/self/oom_score_adj", "-998");
    for procs in &launch.shim_procs {
        if let Some(group) = procs.parent() {
            let _made = std::fs::create_dir_all(group);
        }
        let _moved = std::fs::write(procs, "0");
    }
}

pub fn open_log(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn build_and_start(directory: &Path, launch: &Launch) -> Result<(Started, Streams), Failed> {
    let (report_read, report_write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| Failed::Broken(e.to_string()))?;
    let broke = |e: String| {
        let told = read_report(&report_read);
        told.unwrap_or(Failed::Broken(e))
    };
    let mut builder = ContainerBuilder::new(launch.short.clone(), SyscallType::default())
        .with_executor(Program { report: report_write.as_raw_fd() })
        .with_root_path(&launch.libcontainer_root)
        .map_err(|e| Failed::Broken(chain(&e)))?;
    let mut streams = Streams { stdin: None, stdout: None, stderr: None, terminal: None };
    let console = launch.socket.with_extension("tty");
    let console_listener = if launch.tty {
        let _stale = std::fs::remove_file(&console);
        let listener = UnixListener::bind(&console).map_err(broken("bind the console socket"))?;
        builder = builder.with_console_socket(Some(&console));
        Some(listener)
    } else {
        builder = with_pipes(builder, launch.stdin, &mut streams).map_err(broken("make the container's pipes"))?;
        None
    };
    let built = builder.as_init(directory).with_systemd(false).with_detach(true).build();
    drop(report_write);
    let mut container = match built {
        Ok(container) => container,
        Err(e) => return Err(broke(chain(&e))),
    };
    if let Some(listener) = console_listener {
        let _unlinked = std::fs::remove_file(&console);
        streams.terminal = Some(receive_terminal(&listener).map_err(broken("receive the terminal"))?);
    }
    let pid = container.pid().map_or(0, |p| p.as_raw());
    let pid = u32::try_from(pid).map_err(|_| Failed::Broken("libcontainer gave no process".into()))?;
    place(pid, launch);
    let start_ticks = super::start_ticks(pid).unwrap_or(0);
    let started = jiff::Timestamp::now();
    container.start().map_err(|e| broke(chain(&e)))?;
    Ok((Started { pid, started, start_ticks }, streams))
}

/// The paused first process is put where libcontainer does not put it.
fn place(pid: u32, launch: &Launch) {
    for procs in &launch.container_procs {
        // A hierarchy that refuses it only loses its freeze and events; the limits are elsewhere.
        let _joined = std::fs::write(procs, pid.to_string());
    }
    if let Some(score) = launch.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        if std::fs::write(&path, score.to_string()).is_err() {
            // Below what this process may set: its own value, which the child inherited, is the nearest allowed.
            let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
            let _clamped = std::fs::write(&path, own.trim());
        }
    }
}

fn read_report(pipe: &OwnedFd) -> Option<Failed> {
    rustix::io::ioctl_fionbio(pipe, true).ok()?;
    let mut text = [0u8; 8192];
    let len = rustix::io::read(pipe, &mut text).ok()?;
    serde_json::from_slice(text.get(..len)?).ok()
}

/// An error with everything that caused it, each part once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text
}

fn with_pipes(builder: ContainerBuilder, stdin: bool, streams: &mut Streams) -> io::Result<ContainerBuilder> {
    let inner_in = if stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        streams.stdin = Some(write);
        read
    } else {
        File::open("/dev/null")?.into()
    };
    let (out_read, out_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (err_read, err_write) = pipe_with(PipeFlags::CLOEXEC)?;
    streams.stdout = Some(out_read);
    streams.stderr = Some(err_read);
    Ok(builder.with_stdin(inner_in).with_stdout(out_write).with_stderr(err_write))
}

fn receive_terminal(listener: &UnixListener) -> io::Result<OwnedFd> {
    let (socket, _) = listener.accept()?;
    wire::recv_fds(&socket)?.pop().ok_or_else(|| io::Error::other("no terminal came"))
}

/// Tells the node's process and exchanges this image, with all that libcontainer brought into memory, for a lean one.
/// `execve` keeps the children and the descriptors.
fn become_hold(directory: &Path, launch: &Launch, mut control: UnixStream, launched: Launched) -> i32 {
    if let Ok(payload) = serde_json::to_vec(&launched.started) {
        // When the node's process has died meanwhile the container lives on; the next one reads state.json.
        let _told = wire::write_frame(&mut control, from_shim::STARTED, &payload);
    }
    close_on_exec_all();
    let Streams { stdin, stdout, stderr, terminal } = launched.streams;
    let keep = |fd: Option<OwnedFd>| -> String {
        let Some(fd) = fd else { return "-1".into() };
        let _kept = rustix::io::fcntl_setfd(&fd, FdFlags::empty());
        let raw: RawFd = fd.into_raw_fd();
        raw.to_string()
    };
    let args = vec![
        "windlass".to_owned(),
        super::HELPER.to_owned(),
        "hold".to_owned(),
        directory.display().to_string(),
        launch.log_file.display().to_string(),
        launch.oom_file.display().to_string(),
        launch.leftover_procs.as_ref().map_or_else(String::new, |p| p.display().to_string()),
        launch.socket.display().to_string(),
        launched.started.pid.to_string(),
        launched.started.started.to_string(),
        u8::from(launch.stdin_once).to_string(),
        keep(Some(control.into())),
        keep(Some(launched.listener.into())),
        keep(Some(launched.log.into())),
        keep(stdin),
        keep(stdout),
        keep(stderr),
        keep(terminal),
    ];
    let _error = super::program::execute(Path::new("/proc/self/exe"), &args, &[]);
    // Cannot happen while the binary is running; holding in this image costs memory, nothing else.
    super::hold::main(args.get(3..).unwrap_or_default())
}

#[allow(unsafe_code, reason = "close_range changes flags of this process's descriptors only")]
fn close_on_exec_all() {
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Takes over a descriptor that `become_hold` passed by number.
#[allow(unsafe_code, reason = "the number was passed by the former image of this process, which gave it up")]
pub fn passed(number: &str) -> Option<OwnedFd> {
    let raw: RawFd = number.parse().ok().filter(|n| *n >= 3)?;
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC).ok()?;
    Some(fd)
}

/// Reads a whole small file that may not exist.
pub fn read_small(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(64 * 1024).read_to_string(&mut text).ok()?;
    Some(text)
}
